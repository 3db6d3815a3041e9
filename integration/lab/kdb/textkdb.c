/*
 * A database module for MIT's KDC (DAL version 9, krb5 1.20) that reads a realm from a text file, so that a lab can have what the
 * packaged databases cannot show: delegation lists of both kinds, PACs with SIDs, enterprise names, referrals over trusts.
 * For tests only: keys stand in the file in clear.
 *
 * The file: one statement a line, words separated by blanks, `#` begins a comment. Lines after `principal` belong to it.
 *
 *   principal NAME@REALM        an account; krbtgt/OTHER@THIS and krbtgt/THIS@OTHER are the keys of a trust
 *   alias TEXT                  it answers to this enterprise name too, in any letter case
 *   key ETYPE KVNO HEX          newest first
 *   pac TYPE HEX                a buffer of its PAC (MS-PAC 2.4)
 *   attribute BITS              KRB5_KDB_* attributes, hexadecimal
 *   as-windows yes              evidence for it need not be forwardable where delegation is resource-based
 *   delegates-to NAME@REALM     classic delegation, on the account that delegates
 *   accepts-from NAME@REALM     resource-based delegation, on the account that is delegated to
 *   referral SUFFIX REALM VIA   names in this DNS suffix belong to that realm; the next realm on the way there
 */

#define _GNU_SOURCE

#include <krb5.h>
#include <kdb.h>
#include <profile.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_LINE 16384
#define MAX_KEYS 4
#define MAX_LIST 16
#define MAX_BUFFERS 4

#define LIFE (10 * 60 * 60)

/* KERB_VALIDATION_INFO (MS-PAC 2.5) behind its NDR headers, and USER_NOT_DELEGATED (MS-SAMR 2.2.1.12). */
#define PAC_LOGON_INFO 1
#define USER_ACCOUNT_CONTROL_AT 184
#define USER_NOT_DELEGATED 0x4000

struct key {
    krb5_int16 etype;
    krb5_ui_2 kvno;
    krb5_data value;
};

struct buffer {
    krb5_ui_4 type;
    krb5_data value;
};

struct account {
    krb5_principal name;
    krb5_flags attributes;
    char *aliases[MAX_LIST];
    struct key keys[MAX_KEYS];
    struct buffer pac[MAX_BUFFERS];
    krb5_principal delegates_to[MAX_LIST];
    krb5_principal accepts_from[MAX_LIST];
    int n_aliases, n_keys, n_pac, n_delegates_to, n_accepts_from, as_windows;
    struct account *next;
};

struct referral {
    char *suffix, *realm, *via;
    struct referral *next;
};

/* One file, held by the krb5_context of its realm. */
struct realm {
    struct account *accounts;
    struct referral *referrals;
};

/* --- reading the file ---------------------------------------------------------------------- */

static krb5_error_code
wrong(krb5_context context, const char *path, int number)
{
    krb5_set_error_message(context, EINVAL, "%s:%d: not a statement that is known here", path, number);
    return EINVAL;
}

static int
unhex(const char *text, krb5_data *out)
{
    size_t i, length = strlen(text) / 2;
    unsigned int octet;

    out->magic = KV5M_DATA;
    out->length = length;
    out->data = malloc(length + 1);
    if (out->data == NULL || strlen(text) % 2 != 0)
        return 0;
    for (i = 0; i < length; i++) {
        if (sscanf(text + 2 * i, "%2x", &octet) != 1)
            return 0;
        out->data[i] = octet;
    }
    return 1;
}

static int
add_name(krb5_context context, krb5_principal *list, int *count, const char *text)
{
    return *count < MAX_LIST && krb5_parse_name(context, text, &list[(*count)++]) == 0;
}

/* One statement of the account that the file is at. */
static int
describe(krb5_context context, struct account *account, const char *word, const char *first, const char *second, const char *third)
{
    struct key *key;
    struct buffer *buffer;

    if (strcmp(word, "alias") == 0)
        return account->n_aliases < MAX_LIST && (account->aliases[account->n_aliases++] = strdup(first)) != NULL;
    if (strcmp(word, "attribute") == 0) {
        account->attributes |= strtol(first, NULL, 16);
        return 1;
    }
    if (strcmp(word, "as-windows") == 0) {
        account->as_windows = 1;
        return 1;
    }
    if (strcmp(word, "delegates-to") == 0)
        return add_name(context, account->delegates_to, &account->n_delegates_to, first);
    if (strcmp(word, "accepts-from") == 0)
        return add_name(context, account->accepts_from, &account->n_accepts_from, first);
    if (strcmp(word, "key") == 0 && third != NULL && account->n_keys < MAX_KEYS) {
        key = &account->keys[account->n_keys++];
        key->etype = atoi(first);
        key->kvno = atoi(second);
        return unhex(third, &key->value);
    }
    if (strcmp(word, "pac") == 0 && second != NULL && account->n_pac < MAX_BUFFERS) {
        buffer = &account->pac[account->n_pac++];
        buffer->type = atoi(first);
        return unhex(second, &buffer->value);
    }
    return 0;
}

static krb5_error_code
read_file(krb5_context context, const char *path, struct realm *realm)
{
    char line[MAX_LINE], *word, *first, *second, *third, *rest;
    struct account *account = NULL;
    struct referral *referral;
    krb5_error_code ret = 0;
    int number = 0;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return errno;
    while (ret == 0 && fgets(line, sizeof(line), file) != NULL) {
        number++;
        word = strtok_r(line, " \t\n", &rest);
        if (word == NULL || *word == '#')
            continue;
        first = strtok_r(NULL, " \t\n", &rest);
        second = strtok_r(NULL, " \t\n", &rest);
        third = strtok_r(NULL, " \t\n", &rest);
        if (first == NULL) {
            ret = wrong(context, path, number);
        } else if (strcmp(word, "principal") == 0) {
            account = calloc(1, sizeof(*account));
            if (account == NULL)
                ret = ENOMEM;
            else
                ret = krb5_parse_name(context, first, &account->name);
            if (ret == 0) {
                account->next = realm->accounts;
                realm->accounts = account;
            }
        } else if (strcmp(word, "referral") == 0 && third != NULL) {
            referral = calloc(1, sizeof(*referral));
            if (referral == NULL) {
                ret = ENOMEM;
            } else {
                referral->suffix = strdup(first);
                referral->realm = strdup(second);
                referral->via = strdup(third);
                referral->next = realm->referrals;
                realm->referrals = referral;
            }
        } else if (account == NULL || !describe(context, account, word, first, second, third)) {
            ret = wrong(context, path, number);
        }
    }
    fclose(file);
    return ret;
}

/* --- looking up ---------------------------------------------------------------------------- */

static struct realm *
realm_of(krb5_context context)
{
    void *realm = NULL;

    return krb5_db_get_context(context, &realm) == 0 ? realm : NULL;
}

static struct account *
find(krb5_context context, struct realm *realm, krb5_const_principal name)
{
    struct account *account;

    for (account = realm->accounts; account != NULL; account = account->next) {
        if (krb5_principal_compare(context, account->name, name))
            return account;
    }
    return NULL;
}

/* An enterprise name (RFC 6806 section 5): an alias, or account@REALM. */
static struct account *
find_enterprise(krb5_context context, struct realm *realm, const char *text)
{
    struct account *account;
    char *canonical;
    int i, same;

    for (account = realm->accounts; account != NULL; account = account->next) {
        for (i = 0; i < account->n_aliases; i++) {
            if (strcasecmp(account->aliases[i], text) == 0)
                return account;
        }
        if (krb5_unparse_name(context, account->name, &canonical) != 0)
            continue;
        same = strcasecmp(canonical, text) == 0;
        krb5_free_unparsed_name(context, canonical);
        if (same)
            return account;
    }
    return NULL;
}

/* How a DNS name of another realm is referred, if it is. */
static struct referral *
referred(struct realm *realm, const char *domain)
{
    struct referral *referral;
    size_t length, suffix;

    for (referral = realm->referrals; referral != NULL; referral = referral->next) {
        length = strlen(domain);
        suffix = strlen(referral->suffix);
        if (length < suffix || strcasecmp(domain + length - suffix, referral->suffix) != 0)
            continue;
        if (length == suffix || domain[length - suffix - 1] == '.')
            return referral;
    }
    return NULL;
}

/* Memory of an entry is freed by the library; e_data is the account itself and stays. */
static krb5_error_code
entry_of(krb5_context context, struct account *account, krb5_db_entry **out)
{
    krb5_db_entry *entry = calloc(1, sizeof(*entry));
    krb5_error_code ret;
    krb5_key_data *data;
    int i;

    if (entry == NULL)
        return ENOMEM;
    entry->magic = KRB5_KDB_MAGIC_NUMBER;
    entry->len = KRB5_KDB_V1_BASE_LENGTH;
    entry->attributes = account->attributes;
    entry->max_life = entry->max_renewable_life = LIFE;
    entry->e_data = (krb5_octet *)account;
    entry->key_data = calloc(MAX_KEYS, sizeof(*entry->key_data));
    ret = entry->key_data == NULL ? ENOMEM : krb5_copy_principal(context, account->name, &entry->princ);
    for (i = 0; ret == 0 && i < account->n_keys; i++) {
        data = &entry->key_data[i];
        data->key_data_ver = 1;
        data->key_data_kvno = account->keys[i].kvno;
        data->key_data_type[0] = account->keys[i].etype;
        data->key_data_length[0] = account->keys[i].value.length;
        data->key_data_contents[0] = malloc(data->key_data_length[0]);
        if (data->key_data_contents[0] == NULL)
            ret = ENOMEM;
        else
            memcpy(data->key_data_contents[0], account->keys[i].value.data, data->key_data_length[0]);
        entry->n_key_data++;
    }
    if (ret != 0) {
        krb5_db_free_principal(context, entry);
        return ret;
    }
    *out = entry;
    return 0;
}

/* A client of another realm: nothing but that realm's name (kdb.h, get_principal). */
static krb5_error_code
client_referral(krb5_context context, krb5_const_principal sought, const char *realm, krb5_db_entry **out)
{
    krb5_db_entry *entry = calloc(1, sizeof(*entry));
    krb5_error_code ret;

    if (entry == NULL)
        return ENOMEM;
    ret = krb5_copy_principal(context, sought, &entry->princ);
    if (ret == 0)
        ret = krb5_set_principal_realm(context, entry->princ, realm);
    if (ret != 0)
        krb5_db_free_principal(context, entry);
    else
        *out = entry;
    return ret;
}

/* A server of another realm: the ticket-granting service that leads there. */
static krb5_error_code
server_referral(krb5_context context, struct realm *data, krb5_const_principal sought, const char *realm, krb5_db_entry **out)
{
    const krb5_data *own = &sought->realm;
    krb5_principal tgs;
    struct account *account;
    krb5_error_code ret;

    ret = krb5_build_principal_ext(context, &tgs, own->length, own->data, 6, "krbtgt", (int)strlen(realm), realm, 0);
    if (ret != 0)
        return ret;
    account = find(context, data, tgs);
    krb5_free_principal(context, tgs);
    return account == NULL ? KRB5_KDB_NOENTRY : entry_of(context, account, out);
}

static krb5_error_code
get_principal(krb5_context context, krb5_const_principal sought, unsigned int flags, krb5_db_entry **out)
{
    struct realm *realm = realm_of(context);
    struct account *account;
    const char *domain = NULL, *at;
    struct referral *referral;
    char *text = NULL;
    krb5_error_code ret = KRB5_KDB_NOENTRY;
    const krb5_data *last;

    *out = NULL;
    if (realm == NULL || sought->length == 0)
        return KRB5_KDB_NOENTRY;
    last = &sought->data[sought->length - 1];
    text = strndup(last->data, last->length);
    if (text == NULL)
        return ENOMEM;
    if (sought->type == KRB5_NT_ENTERPRISE_PRINCIPAL && sought->length == 1) {
        account = find_enterprise(context, realm, text);
        at = strrchr(text, '@');
        domain = at == NULL ? NULL : at + 1;
    } else {
        account = find(context, realm, sought);
        domain = sought->length == 2 ? text : NULL;
    }
    if (account != NULL) {
        ret = entry_of(context, account, out);
    } else if ((flags & KRB5_KDB_FLAG_REFERRAL_OK) && domain != NULL && (referral = referred(realm, domain)) != NULL) {
        if (flags & KRB5_KDB_FLAG_CLIENT)
            ret = client_referral(context, sought, referral->realm, out);
        else
            ret = server_referral(context, realm, sought, referral->via, out);
    }
    free(text);
    return ret;
}

static void
free_e_data(krb5_context context, krb5_octet *e_data)
{
    /* The account belongs to the realm. */
    (void)context;
    (void)e_data;
}

/* --- keys: in clear ------------------------------------------------------------------------ */

static krb5_error_code
no_master_key(krb5_keyblock *key)
{
    key->magic = KV5M_KEYBLOCK;
    key->enctype = ENCTYPE_AES256_CTS_HMAC_SHA1_96;
    key->length = 32;
    key->contents = calloc(1, 32);
    return key->contents == NULL ? ENOMEM : 0;
}

static krb5_error_code
fetch_master_key(krb5_context context, krb5_principal name, krb5_keyblock *key, krb5_kvno *kvno, char *arguments)
{
    (void)context;
    (void)name;
    (void)arguments;
    if (kvno != NULL)
        *kvno = 1;
    return no_master_key(key);
}

static krb5_error_code
fetch_master_key_list(krb5_context context, krb5_principal name, const krb5_keyblock *key, krb5_keylist_node **out)
{
    krb5_keylist_node *node = calloc(1, sizeof(*node));

    (void)context;
    (void)name;
    (void)key;
    if (node == NULL)
        return ENOMEM;
    node->kvno = 1;
    *out = node;
    return no_master_key(&node->keyblock);
}

static krb5_error_code
decrypt_key_data(krb5_context context, const krb5_keyblock *master, const krb5_key_data *data, krb5_keyblock *key, krb5_keysalt *salt)
{
    (void)context;
    (void)master;
    if (salt != NULL)
        memset(salt, 0, sizeof(*salt));
    key->magic = KV5M_KEYBLOCK;
    key->enctype = data->key_data_type[0];
    key->length = data->key_data_length[0];
    key->contents = malloc(key->length);
    if (key->contents == NULL)
        return ENOMEM;
    memcpy(key->contents, data->key_data_contents[0], key->length);
    return 0;
}

/* --- delegation ---------------------------------------------------------------------------- */

static int
lists(krb5_context context, krb5_principal *list, int count, krb5_const_principal name)
{
    int i;

    for (i = 0; i < count; i++) {
        if (krb5_principal_compare(context, list[i], name))
            return 1;
    }
    return 0;
}

/* Of the request at hand; the KDC has one at a time. */
static int evidence_is_forwardable = 1;

/*
 * MIT's KDC refuses evidence that is not forwardable before it asks a module. A domain controller does not, where delegation is
 * resource-based (MS-SFU 3.2.5.2.2). Preloaded into the KDC, this takes the place of libkrb5's function, which the KDC calls for a
 * decrypted ticket, last for the evidence; it hides the lack of the flag where an account asks for it. check_allowed_to_delegate and
 * issue_pac do not forget it.
 */
krb5_error_code
krb5_kdc_verify_ticket(krb5_context context, const krb5_enc_tkt_part *ticket, krb5_const_principal server, const krb5_keyblock *key,
                       const krb5_keyblock *krbtgt_key, krb5_pac *pac)
{
    static __typeof__(krb5_kdc_verify_ticket) *original;
    struct realm *realm = realm_of(context);
    struct account *account;
    krb5_error_code ret;

    if (original == NULL)
        original = (__typeof__(original))dlsym(RTLD_NEXT, "krb5_kdc_verify_ticket");
    ret = original == NULL ? ENOSYS : original(context, ticket, server, key, krbtgt_key, pac);
    if (ret != 0 || realm == NULL)
        return ret;
    evidence_is_forwardable = (ticket->flags & TKT_FLG_FORWARDABLE) != 0;
    account = find(context, realm, server);
    if (account != NULL && account->as_windows)
        ((krb5_enc_tkt_part *)ticket)->flags |= TKT_FLG_FORWARDABLE;
    return 0;
}

/* The classic list is the delegating account's. Without a target: is there a list at all? */
static krb5_error_code
check_allowed_to_delegate(krb5_context context, krb5_const_principal client, const krb5_db_entry *server, krb5_const_principal proxy)
{
    struct account *account = (struct account *)server->e_data;
    int allowed;

    (void)client;
    if (account == NULL)
        return KRB5KDC_ERR_BADOPTION;
    if (proxy == NULL)
        allowed = account->n_delegates_to > 0;
    else
        allowed = evidence_is_forwardable && lists(context, account->delegates_to, account->n_delegates_to, proxy);
    return allowed ? 0 : KRB5KDC_ERR_BADOPTION;
}

/* The resource-based list is the target's. A domain controller compares SIDs; this compares names. */
static krb5_error_code
allowed_to_delegate_from(krb5_context context, krb5_const_principal client, krb5_const_principal server, krb5_pac server_pac,
                         const krb5_db_entry *proxy)
{
    struct account *account = (struct account *)proxy->e_data;

    (void)client;
    (void)server_pac;
    if (account != NULL && lists(context, account->accepts_from, account->n_accepts_from, server))
        return 0;
    return KRB5KDC_ERR_BADOPTION;
}

/* Realms that are not each other's parents: who trusts whom is in the file. */
static krb5_error_code
check_transited_realms(krb5_context context, const krb5_data *transited, const krb5_data *client, const krb5_data *server)
{
    (void)context;
    (void)transited;
    (void)client;
    (void)server;
    return 0;
}

/* --- the PAC ------------------------------------------------------------------------------- */

/* Such users are not delegated; where the flag of the evidence does not say so, their account does. */
static int
is_sensitive(const krb5_data *logon_info)
{
    unsigned char *at = (unsigned char *)logon_info->data + USER_ACCOUNT_CONTROL_AT;

    return logon_info->length >= USER_ACCOUNT_CONTROL_AT + 4 && ((at[0] | at[1] << 8) & USER_NOT_DELEGATED) != 0;
}

/* The signatures and the client information are the KDC's own work; the rest is the account's, or is handed on. */
static krb5_error_code
issue_pac(krb5_context context, unsigned int flags, krb5_db_entry *client, krb5_keyblock *replaced, krb5_db_entry *server,
          krb5_db_entry *signing, krb5_timestamp authtime, krb5_pac old, krb5_pac new, krb5_data ***indicators)
{
    static const krb5_ui_4 handed_on[] = { PAC_LOGON_INFO, 12 /* UPN_DNS_INFO */ };
    struct account *account = client == NULL ? NULL : (struct account *)client->e_data;
    krb5_error_code ret = 0;
    krb5_data value;
    size_t i;

    (void)replaced;
    (void)server;
    (void)signing;
    (void)authtime;
    (void)indicators;
    /* With protocol transition the old PAC is the service's own, unless the user comes from another realm. */
    if (old == NULL || ((flags & KRB5_KDB_FLAG_PROTOCOL_TRANSITION) && client != NULL)) {
        for (i = 0; account != NULL && ret == 0 && i < (size_t)account->n_pac; i++)
            ret = krb5_pac_add_buffer(context, new, account->pac[i].type, &account->pac[i].value);
        return ret;
    }
    for (i = 0; ret == 0 && i < sizeof(handed_on) / sizeof(*handed_on); i++) {
        if (krb5_pac_get_buffer(context, old, handed_on[i], &value) != 0)
            continue;
        if (i == 0 && (flags & KRB5_KDB_FLAG_CONSTRAINED_DELEGATION) && !evidence_is_forwardable && is_sensitive(&value))
            ret = KRB5KDC_ERR_BADOPTION;
        else
            ret = krb5_pac_add_buffer(context, new, handed_on[i], &value);
        krb5_free_data_contents(context, &value);
    }
    return ret;
}

/* --- the module ---------------------------------------------------------------------------- */

static krb5_error_code
nothing(void)
{
    return 0;
}

/* [dbmodules] SECTION = { database_name = FILE } */
static krb5_error_code
init_module(krb5_context context, char *section, char **arguments, int mode)
{
    struct realm *realm = calloc(1, sizeof(*realm));
    profile_t profile = NULL;
    char *path = NULL;
    krb5_error_code ret;

    (void)arguments;
    (void)mode;
    if (realm == NULL)
        return ENOMEM;
    ret = krb5_get_profile(context, &profile);
    if (ret == 0)
        ret = profile_get_string(profile, KDB_MODULE_SECTION, section, "database_name", NULL, &path);
    if (ret == 0)
        ret = path == NULL ? ENOENT : read_file(context, path, realm);
    if (ret == 0)
        ret = krb5_db_set_context(context, realm);
    profile_release_string(path);
    profile_release(profile);
    return ret;
}

/* The process ends with its realm: nothing is given back. */
static krb5_error_code
fini_module(krb5_context context)
{
    return krb5_db_set_context(context, NULL);
}

kdb_vftabl kdb_function_table = {
    .maj_ver = KRB5_KDB_DAL_MAJOR_VERSION,
    .min_ver = 0,
    .init_library = nothing,
    .fini_library = nothing,
    .init_module = init_module,
    .fini_module = fini_module,
    .get_principal = get_principal,
    .free_principal_e_data = free_e_data,
    .fetch_master_key = fetch_master_key,
    .fetch_master_key_list = fetch_master_key_list,
    .decrypt_key_data = decrypt_key_data,
    .check_transited_realms = check_transited_realms,
    .check_allowed_to_delegate = check_allowed_to_delegate,
    .allowed_to_delegate_from = allowed_to_delegate_from,
    .issue_pac = issue_pac,
};
