# shellcheck shell=bash
# Programs from Debian's suite bullseye, the last with Consul and with a Prometheus that knows Consul, from the mirror that this system's
# apt uses already. apt checks the archive's signature and the package's checksum, in state directories of its own: the system's package
# lists stay as they are and nothing is installed. Sourced after steps.sh.

SUITE=bullseye
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# from_bullseye PACKAGE HOME ELSEWHERE PROGRAM...: puts the package's programs (of /usr/bin) into HOME, or fails with ELSEWHERE as the
# other way to have them.
from_bullseye() {
    local package=$1 home=$2 elsewhere=$3 mirrors mirror work program
    shift 3
    debian || fail "no $package on PATH, and only Debian's package can be fetched automatically" "$elsewhere"
    [[ -r $KEYRING ]] || fail "no $KEYRING to check Debian's signature with" "apt-get install debian-archive-keyring" "or $elsewhere"

    # apt itself says what its configuration means, in either format of its sources.
    # shellcheck disable=SC2016  # $(REPO_URI) is for apt to expand
    mirrors=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -vi security | sort -u) || true
    [[ -n $mirrors ]] || fail "apt knows no mirror (nothing in /etc/apt/sources.list*)" "$elsewhere"

    rm -rf "$home".?????? # what a killed run of this step left
    work=$(mktemp -d "$home.XXXXXX")
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work"/{state/lists/partial,cache/archives/partial}
    touch "$work/status"
    for mirror in $mirrors; do
        say "fetching Debian's package $package ($SUITE) from $mirror"
        printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$mirror" "$SUITE" >"$work/sources.list"
        # Run inside the directory: `download` writes where it stands.
        if (cd "$work" && private_apt update --error-on=any && private_apt download "$package"); then
            dpkg-deb --fsys-tarfile "$work/${package}"_*.deb | tar --extract --file=- --directory="$work" "${@/#/./usr/bin/}"
            mkdir -p "$home"
            for program in "$@"; do
                mv "$work/usr/bin/$program" "$home/$program"
            done
            return 0
        fi
    done
    fail "no mirror that apt uses has Debian's suite $SUITE: $(tr '\n' ' ' <<<"$mirrors")" "see apt's messages above; or $elsewhere"
}

# Stands in the directory that from_bullseye made.
private_apt() {
    apt-get --quiet --option Dir::Etc::sourcelist="$PWD/sources.list" --option Dir::Etc::sourceparts=- \
        --option Dir::State="$PWD/state" --option Dir::State::status="$PWD/status" \
        --option Dir::Cache="$PWD/cache" --option APT::Sandbox::User="$(id -un)" \
        --option Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false --option Acquire::Languages=none \
        --option Acquire::Retries=2 "$@" >&2
}
