#!/usr/bin/env bash
# Runs the doctor for every case of cases.tsv, compares what it says with what is expected, and
# records what the domain controllers and web servers answered.
#
#   run.sh --platform windows|samba --names FILE --keytabs DIRECTORY --out DIRECTORY
#          [--cases FILE] [--kdc WORDS] [--config FILE] [CASE...]
#
#   --names     name, tab, value: a principal for each account of the bridge, a UPN for each user, an SPN
#               or `backend:NAME` for each target, a URL for each url, and kdcs (hosts, blanks between)
#   --keytabs   ACCOUNT.keytab for each account of the bridge
#   --out       is made: summary.tsv, reports/CASE.txt (with real names), captures/CASE (fit to be given away)
#   --kdc       what runs there, in words, such as "Windows Server 2022 20348.2527"
#   --config    the configuration whose back ends are meant by `backend:NAME`
#
# KCD_BRIDGE names the program (default: kcd-bridge). A case whose names have no value is skipped.
# Exit status: 0 as expected, 1 something differs, 2 usage, 3 could not run.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
BRIDGE=${KCD_BRIDGE:-kcd-bridge}

usage() {
    sed -n '5,6s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}
lacking() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 3
}

platform='' names_file='' keytabs='' out='' cases=$HERE/cases.tsv kdc_words='' config=''
chosen=()
while [ $# != 0 ]; do
    case $1 in
    --platform | --names | --keytabs | --out | --cases | --kdc | --config)
        [ $# -ge 2 ] || usage
        case $1 in
        --platform) platform=$2 ;;
        --names) names_file=$2 ;;
        --keytabs) keytabs=$2 ;;
        --out) out=$2 ;;
        --cases) cases=$2 ;;
        --kdc) kdc_words=$2 ;;
        --config) config=$2 ;;
        esac
        shift 2
        ;;
    -*) usage ;;
    *)
        chosen+=("$1")
        shift
        ;;
    esac
done
[[ $platform == windows || $platform == samba ]] || usage
for given in "$names_file" "$keytabs" "$out"; do
    [ -n "$given" ] || usage
done
command -v "$BRIDGE" >/dev/null || lacking "no program $BRIDGE: set KCD_BRIDGE"
[ -r "$cases" ] || lacking "cannot read $cases"
[ -r "$names_file" ] || lacking "cannot read $names_file"
umask 077
mkdir "$out" || lacking "$out must be new"
mkdir "$out/reports" "$out/captures"

# Written on Windows, the file has its line ends, and perhaps a byte order mark.
declare -A names
while IFS=$'\t' read -r name value; do
    case $name in '' | '#'*) continue ;; esac
    names[$name]=$value
done < <(sed $'1s/^\xEF\xBB\xBF//; s/\r$//' "$names_file")
[ -n "${names[kdcs]:-}" ] || lacking "$names_file has no value for kdcs"
read -r -a kdcs <<<"${names[kdcs]}"

# outcome_of REPORT STATUS: good, or stage:reason, or stage:reason:ntstatus
outcome_of() {
    if [ "$2" = 0 ]; then
        echo good
        return
    fi
    awk '
        $1 == "FAILED" {
            stage = $2
            if (match($0, /NTSTATUS 0x[0-9a-fA-F]+/)) status = ":" tolower(substr($0, RSTART + 9, RLENGTH - 9))
        }
        $1 == "reason:" { reason = $2 }
        END { if (stage == "" || reason == "") exit 1; print stage ":" reason status }' "$1"
}

# as_expected SEEN EXPECTED: what EXPECTED leaves open may be anything
as_expected() {
    [ "$1" = "$2" ] || [[ $2 == *:* && $1 == "$2":* && $2 != *:*:* ]]
}

wanted() {
    local one
    [ ${#chosen[@]} != 0 ] || return 0
    for one in "${chosen[@]}"; do
        [ "$one" != "$1" ] || return 0
    done
    return 1
}

tell() {
    printf '%s\t%s\t%s\t%s\n' "$@" >>"$out/summary.tsv"
    printf '%-9s %-26s expected %-38s seen %s\n' "$2" "$1" "$3" "$4"
}

run_case() { # case bridge user target url expected
    local name=$1 bridge=$2 user=$3 target=$4 url=$5 expected=$6
    local report=$out/reports/$name.txt status=0 seen verdict key arguments
    for key in "$bridge" "$user" "$target" "$url"; do
        if [ "$key" != - ] && [ -z "${names[$key]:-}" ]; then
            tell "$name" skipped "$expected" "$key has no value in the file of names"
            return
        fi
    done
    arguments=(doctor --user "${names[$user]}")
    if [[ ${names[$target]} == backend:* ]]; then
        if [ -z "$config" ]; then
            tell "$name" skipped "$expected" "$target is a back end of a configuration, and --config is not given"
            return
        fi
        arguments+=(--config "$config" --backend "${names[$target]#backend:}")
    else
        arguments+=(--keytab "$keytabs/$bridge.keytab" --principal "${names[$bridge]}" --kdc "${kdcs[@]}" --spn "${names[$target]}")
        [ "$url" = - ] || arguments+=(--url "${names[$url]}")
    fi
    arguments+=(--record "$out/captures/$name" --label "case=$name" --label "expected=$expected" --label "platform=$platform")
    [ -z "$kdc_words" ] || arguments+=(--label "kdc=$kdc_words")
    # Standard input is the list of cases.
    "$BRIDGE" "${arguments[@]}" >"$report" 2>&1 </dev/null || status=$?
    if [ "$status" -gt 1 ] || ! seen=$(outcome_of "$report" "$status"); then
        tell "$name" DIFFERS "$expected" "the doctor could not run: $report"
        differs=$((differs + 1))
        return
    fi
    if as_expected "$seen" "${expected%\?}"; then
        verdict=ok
    elif [[ $expected == *\? ]]; then
        verdict=new
    else
        verdict=DIFFERS
        differs=$((differs + 1))
    fi
    tell "$name" "$verdict" "$expected" "$seen"
    ran=$((ran + 1))
}

differs=0 ran=0
printf 'case\tverdict\texpected\tseen\n' >"$out/summary.tsv"
while IFS=$'\t' read -r name bridge user target url on_windows on_samba; do
    case $name in '' | '#'*) continue ;; esac
    expected=$on_windows
    [ "$platform" = windows ] || expected=$on_samba
    if [ "$expected" = - ] || ! wanted "$name"; then
        continue
    fi
    run_case "$name" "$bridge" "$user" "$target" "$url" "$expected"
done <"$cases"

[ $ran != 0 ] || lacking "no case was run"
printf '%d run, %d differ; captures to give away: %s\n' "$ran" "$differs" "$out/captures"
[ "$differs" = 0 ] || exit 1
