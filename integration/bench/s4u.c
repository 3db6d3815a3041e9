/*
 * The least that gets the same tickets: libkrb5 called directly, S4U2Self and S4U2Proxy for each user, each thread with its own
 * context, TGT and memory cache. What `acquisition` compares the bridge's engine with.
 *
 *   s4u KEYTAB PRINCIPAL SPN THREADS USER...      users are enterprise names
 *
 * Prints seconds and seconds of processor time for all users. Exit status 1 when a ticket was not got.
 */

#define _GNU_SOURCE

#include <krb5.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* Exported by libkrb5.so.3, missing in krb5.h. */
krb5_error_code krb5_get_credentials_for_user(krb5_context context, krb5_flags options, krb5_ccache ccache,
                                              krb5_creds *in_creds, krb5_data *subject_cert, krb5_creds **out_creds);

struct work {
    const char *keytab, *principal, *spn;
    char **users;
    int first, step, count, failed;
};

static pthread_barrier_t ready;

static krb5_error_code log_in(krb5_context context, const struct work *work, krb5_principal own, krb5_ccache *cache)
{
    krb5_keytab keytab = NULL;
    krb5_creds creds = { 0 };
    krb5_get_init_creds_opt *options = NULL;
    krb5_error_code code = krb5_kt_resolve(context, work->keytab, &keytab);

    if (!code)
        code = krb5_get_init_creds_opt_alloc(context, &options);
    if (!code) {
        krb5_get_init_creds_opt_set_forwardable(options, 1);
        code = krb5_get_init_creds_keytab(context, &creds, own, keytab, 0, NULL, options);
    }
    if (!code)
        code = krb5_cc_new_unique(context, "MEMORY", NULL, cache);
    if (!code)
        code = krb5_cc_initialize(context, *cache, own);
    if (!code)
        code = krb5_cc_store_cred(context, *cache, &creds);
    krb5_free_cred_contents(context, &creds);
    krb5_get_init_creds_opt_free(context, options);
    if (keytab)
        krb5_kt_close(context, keytab);
    return code;
}

static krb5_error_code delegate(krb5_context context, krb5_ccache cache, krb5_principal own, krb5_principal spn,
                                const char *name)
{
    krb5_creds self = { 0 }, proxy = { 0 };
    krb5_creds *evidence = NULL, *ticket = NULL;
    krb5_error_code code = krb5_parse_name_flags(context, name, KRB5_PRINCIPAL_PARSE_ENTERPRISE, &self.client);

    if (!code) {
        self.server = own;
        code = krb5_get_credentials_for_user(context, KRB5_GC_CANONICALIZE | KRB5_GC_NO_STORE, cache, &self, NULL, &evidence);
    }
    if (!code) {
        proxy.client = own;
        proxy.server = spn;
        proxy.second_ticket = evidence->ticket;
        code = krb5_get_credentials(context, KRB5_GC_CANONICALIZE | KRB5_GC_NO_STORE | KRB5_GC_CONSTRAINED_DELEGATION, cache,
                                    &proxy, &ticket);
    }
    krb5_free_creds(context, ticket);
    krb5_free_creds(context, evidence);
    krb5_free_principal(context, self.client);
    return code;
}

static void *run(void *argument)
{
    struct work *work = argument;
    krb5_context context = NULL;
    krb5_principal own = NULL, spn = NULL;
    krb5_ccache cache = NULL;
    krb5_error_code code = krb5_init_context(&context);

    if (!code)
        code = krb5_parse_name(context, work->principal, &own);
    if (!code)
        code = krb5_parse_name(context, work->spn, &spn);
    if (!code)
        code = log_in(context, work, own, &cache);
    pthread_barrier_wait(&ready);
    for (int user = work->first; !code && user < work->count; user += work->step)
        code = delegate(context, cache, own, spn, work->users[user]);
    if (code) {
        fprintf(stderr, "s4u: %s\n", krb5_get_error_message(context, code));
        work->failed = 1;
    }
    return NULL;
}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int threads, failed = 0;
    pthread_t *ids;
    struct work *work;
    double start, processor;

    if (argc < 6 || (threads = atoi(argv[4])) < 1) {
        fprintf(stderr, "usage: s4u KEYTAB PRINCIPAL SPN THREADS USER...\n");
        return 2;
    }
    ids = calloc((size_t)threads, sizeof(*ids));
    work = calloc((size_t)threads, sizeof(*work));
    if (!ids || !work)
        return 1;
    /* The clocks run from when everybody has a TGT. */
    pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
    for (int t = 0; t < threads; t++) {
        work[t] = (struct work){ argv[1], argv[2], argv[3], argv + 5, t, threads, argc - 5, 0 };
        pthread_create(&ids[t], NULL, run, &work[t]);
    }
    pthread_barrier_wait(&ready);
    start = seconds(CLOCK_MONOTONIC);
    processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        failed |= work[t].failed;
    }
    printf("%f %f\n", seconds(CLOCK_MONOTONIC) - start, seconds(CLOCK_PROCESS_CPUTIME_ID) - processor);
    return failed;
}
