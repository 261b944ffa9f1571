# shellcheck shell=bash
# Sourced by the scripts one folder up: makes this machine ready to run the project.
#
#   set_up SET [SYSTEM PACKAGE...]   system libraries, .venv and the packages of SET
#   set_up_peer NAME                 the packages of requirements/peers/NAME.txt
#
# SET names a lock file, requirements/SET.txt: bridge, demo, dev, fuzz or bench. Each
# holds everything the one before it does, so one .venv serves all scripts and only grows.
# SYSTEM PACKAGE is a Debian name; is_here and brew_name below know the others.
#
# What is in place already isn't touched, and finding that out takes a fraction of a
# second. Bash 3.2 is enough, since that is what macOS has.

ROOT=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
VENV=$ROOT/.venv
SETS="bridge demo dev fuzz bench"

# On standard error: standard output belongs to the program that is run in the end.
say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# Package managers talk a lot. Show what they said only if they failed.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    rm -f "$log"
    return 1
}

# ---------------------------------------------------------------- system packages

BREW_LIB=
case $OSTYPE in
darwin*)
    if command -v brew >/dev/null; then
        BREW_LIB=$(brew --prefix)/lib
        # Python's ctypes looks for libraries in the places named here, and Homebrew's
        # isn't among them by itself. The last two are macOS's own defaults, which setting
        # the variable would otherwise remove.
        export DYLD_FALLBACK_LIBRARY_PATH="$BREW_LIB:${DYLD_FALLBACK_LIBRARY_PATH:-/usr/local/lib:/usr/lib}"
    fi
    ;;
esac

# has_library libopus
has_library() {
    if [ -n "$BREW_LIB" ]; then
        [ -e "$BREW_LIB/$1.dylib" ]
        return
    fi
    # ldconfig lies outside the PATH of ordinary users on Debian.
    case $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true) in
    *"$1.so"*) return 0 ;;
    esac
    # musl (Alpine) keeps no such list.
    compgen -G "/usr/lib/$1.so*" >/dev/null
}

# The browser that tests/browser.py looks for, under any of the names that it knows.
has_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    [ -e "/Applications/Chromium.app" ] || [ -e "/Applications/Google Chrome.app" ]
}

# is_here DEBIAN-PACKAGE: true if what the package brings is there, wherever it came from.
is_here() {
    case $1 in
    libopus0) has_library libopus ;;
    libogg0) has_library libogg ;;
    opus-tools) command -v opusenc >/dev/null && command -v opusdec >/dev/null ;;
    redis-server) command -v redis-server >/dev/null ;;
    # Debian and Homebrew keep the server's programs, which come in versions, outside the PATH.
    postgresql)
        command -v initdb >/dev/null ||
            compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null ||
            compgen -G "${BREW_LIB%/lib}/opt/postgresql@*/bin/initdb" >/dev/null
        ;;
    chromium) has_chromium ;;
    build-essential) command -v cc >/dev/null ;;
    # Debian and Ubuntu split these two off from Python itself.
    python*-venv) "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ;;
    python*-dev)
        "$PYTHON" -c 'import os, sys, sysconfig as s
sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))'
        ;;
    *) die "scripts/lib/setup.sh: is_here doesn't know $1" ;;
    esac
}

brew_name() {
    case $1 in
    libopus0) echo opus ;;
    libogg0) echo libogg ;;
    opus-tools) echo opus-tools ;;
    redis-server) echo redis ;;
    postgresql) echo postgresql@17 ;;
    chromium) echo chromium ;;
    build-essential) die "A C compiler is missing. Type: xcode-select --install" ;;
    *) die "$PYTHON lacks a part ($1). Type: brew install python@3.13" ;;
    esac
}

# system_packages DEBIAN-PACKAGE...: installs those that are missing.
system_packages() {
    local package missing="" formulas=""
    for package; do
        is_here "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0

    # shellcheck disable=SC2086  # a list of words
    case $OSTYPE in
    darwin*)
        for package in $missing; do
            formulas="$formulas $(brew_name "$package")"
        done
        command -v brew >/dev/null ||
            die "Needed:$formulas. Install Homebrew, then type: brew install$formulas"
        say "brew install$formulas"
        quietly brew install $formulas || die "That failed (above). To try by hand: brew install$formulas"
        ;;
    *)
        command -v apt-get >/dev/null || die \
            "These are missing; install them with your package manager (names as in Debian):" \
            " $missing"
        apt_install $missing
        ;;
    esac

    for package in $missing; do
        is_here "$package" || die "$package is installed, yet what it brings can't be found."
    done
}

apt_install() {
    local sudo="" by_hand="  apt-get update && apt-get install -y --no-install-recommends $*"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "These system packages are missing: $*" \
            "Installing them takes root, and there is no sudo here. As root, type:" "$by_hand"
        say "System packages are missing, sudo may ask for your password"
        sudo true || die "These system packages are missing: $*" \
            "Installing them takes root, and sudo refused. As root, type:" "$by_hand"
        sudo=sudo
    fi
    say "Installing system packages: $*"
    case " $* " in
    *" postgresql "*)
        # The tests start servers of their own: Debian need not make one, and start it, for us.
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            $sudo mkdir -p /etc/postgresql-common
            echo "create_main_cluster = false" |
                $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
        fi
        ;;
    esac
    # The package index may be from another day and name files that are gone. But if some
    # repository of this machine is out of order, ours may not need it: so go on.
    quietly $sudo apt-get update || say "apt-get update failed (above), going on"
    quietly $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@" ||
        die "That failed (above). To try by hand, as root:" "$by_hand"
}

# ------------------------------------------------------------------------- Python

# try_python NAME FIRST-VERSION-TOO-NEW: sets PYTHON and PYTHON_VERSION ("3.11") if it fits.
try_python() {
    local found
    # Answers with the interpreter behind a venv, should one be active: that may be the
    # very .venv that is about to be replaced.
    found=$("$1" -c '
import sys
assert (3, 11) <= sys.version_info < (3, int(sys.argv[1]))
print("%d.%d" % sys.version_info[:2], sys._base_executable)' "$2" 2>/dev/null) || return 1
    PYTHON_VERSION=${found%% *}
    PYTHON=${found#* }
}

pick_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if try_python "$name" 14; then return; fi
    done
    # Newer ones as a last resort: not all that the tests use is built for them.
    for name in python3 python3.14; do
        if try_python "$name" 99; then return; fi
    done
    die "Python 3.11 or newer is needed, and there is $(python3 --version 2>/dev/null || echo none) here." \
        "Debian 12, Ubuntu 24.04 and later: apt-get install python3" \
        "Ubuntu 22.04: apt-get install python3.11    macOS: brew install python@3.13"
}

# What a .venv is tied to: its Python, and its place (its programs hold absolute paths).
venv_identity() {
    "$VENV/bin/python" -ISc 'import os, sys; print(sys.version, os.uname().machine)' 2>/dev/null ||
        echo "no Python"
    echo "$ROOT"
}

# Writes a file in one go: it is there whole or not at all.
write() {
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

holds() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# What the stamp of SET says: all that its installation depends on.
stamp_of() {
    echo "$IDENTITY"
    cksum <"$ROOT/requirements/$1.txt"
    cksum <"$ROOT/pyproject.toml"
}

# is_installed SET: SET itself or a larger one.
is_installed() {
    local set large_enough=
    for set in $SETS; do
        if [ "$set" = "$1" ]; then large_enough=yes; fi
        if [ -n "$large_enough" ] && holds "$VENV/.installed-$set" "$(stamp_of "$set")"; then
            return 0
        fi
    done
    return 1
}

pip_install() {
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@" ||
        die "pip failed (above). To try again, start the same script again."
}

make_venv() {
    say "Making .venv with Python $PYTHON_VERSION"
    "$PYTHON" -m venv --clear "$VENV" || die "That failed (above)."
    IDENTITY=$(venv_identity)
    write "$VENV/.made" "$IDENTITY"
}

install_set() {
    # From here to the end, whatever happens, .venv must not pass for complete.
    rm -f "$VENV"/.installed-*
    say "Installing the packages of requirements/$1.txt (a minute or so the first time)"
    # First what builds the packages that are published as source only: see build.in.
    pip_install --require-hashes -r "$ROOT/requirements/build.txt"
    if [ "$1" = bench ]; then
        pip_install --require-hashes -r "$ROOT/requirements/build-bench.txt"
    fi
    pip_install --require-hashes --no-build-isolation -r "$ROOT/requirements/$1.txt"
    pip_install --no-deps --no-build-isolation --editable "$ROOT"
    write "$VENV/.installed-$1" "$(stamp_of "$1")"
}

# One set-up at a time: two scripts started at once would spoil each other's .venv.
# The lock is on the repository's folder, so no file is left behind. macOS has no flock.
locked() (
    if command -v flock >/dev/null && ! flock -n 9; then
        say "Waiting for another set-up to end"
        flock 9 || true # some network file systems can't lock: go on without
    fi
    "$@"
) 9<"$ROOT"

# ------------------------------------------------------------------ what scripts call

set_up() {
    local set=$1 package ready=yes
    shift
    set -- libopus0 libogg0 "$@"
    IDENTITY=$(venv_identity)
    for package; do
        is_here "$package" || ready=
    done
    if [ -n "$ready" ] && is_installed "$set"; then return; fi
    locked really_set_up "$set" "$@"
    IDENTITY=$(venv_identity)
}

really_set_up() {
    local set=$1 sound=
    shift
    IDENTITY=$(venv_identity)
    if is_installed "$set"; then # then only system packages are missing
        system_packages "$@"
        return
    fi
    # Everything in one call, so that whoever has to type it by hand does so once.
    if holds "$VENV/.made" "$IDENTITY" && try_python "$VENV/bin/python" 99; then
        sound=yes
    else
        pick_python
        set -- "$@" "python$PYTHON_VERSION-venv"
    fi
    if [ "$set" = bench ]; then # pesq is compiled
        set -- "$@" build-essential "python$PYTHON_VERSION-dev"
    fi
    system_packages "$@"
    if [ -z "$sound" ]; then make_venv; fi
    install_set "$set"
}

# The tests check that we and sphn (which PersonaPlex's server uses) understand each
# other, with two releases that can't share one .venv. So each has a folder, for PYTHONPATH.
# Call set_up first.
set_up_peer() {
    local stamp
    stamp=$IDENTITY$(cksum <"$ROOT/requirements/peers/$1.txt")
    if holds "$VENV/peers/$1/.installed" "$stamp"; then return; fi
    # There are no other builds, and to compile it takes Rust: the tests go without.
    case $(uname -s)-$(uname -m)-$IDENTITY in
    Linux-x86_64-3.1[123].* | Darwin-arm64-3.1[123].*) ;;
    *)
        say "$1 isn't published for this machine's system or Python: tests against it are skipped"
        mkdir -p "$VENV/peers/$1"
        touch "$VENV/peers/$1/.unpublished" # the tests skip for this, and fail for want of both
        return
        ;;
    esac
    locked install_peer "$1" "$stamp"
}

install_peer() {
    local target=$VENV/peers/$1
    if holds "$target/.installed" "$2"; then return; fi # by another script, just now
    say "Installing $1, which the tests talk to"
    rm -rf "$target"
    pip_install --no-deps --only-binary :all: --require-hashes --target "$target" \
        -r "$ROOT/requirements/peers/$1.txt"
    write "$target/.installed" "$2"
}
