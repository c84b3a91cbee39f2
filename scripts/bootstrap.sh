# Sourced by the scripts beside it: makes `.venv` hold exactly what a lock file names.
#
# On a Debian machine with a python3 of 3.11 or later and nothing else, `bootstrap runtime` (or `dev`, `load`, `fuzz`) ends with a
# working `.venv`, or with a message that says what to do. When there is nothing to do it costs two file comparisons.
# Everything it says goes to standard error, so that the output of the command it prepares stays clean.
#
# A stamp is a copy of the lock file, laid into `.venv` only after everything was installed: while lock and stamp differ,
# the environment is not trusted. Two scripts started at once take turns.

BOOTSTRAP_WAIT_MAX_S=900 # How long to wait for another script that is setting up; a slow network needs a few minutes.

root=$(readlink -f "${BASH_SOURCE[0]}")
root=${root%/scripts/*}
venv=$root/.venv
python=$venv/bin/python

say() { printf 'loomproxy: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# as_root COMMAND... runs it as root, asking sudo where needed; says what to do where neither is possible.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "not root and no sudo here, but Debian packages are missing. Run this as root, then try again: $*"
  fi
}

# debian PACKAGE... installs Debian packages, showing apt-get's own progress.
debian() {
  command -v apt-get >/dev/null ||
    fail "this is not a Debian system, and these are missing: $*. Install what they hold by your system's own means, then try again."
  say "installing Debian packages: $*"
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; then
    say "refreshing the list of Debian packages first"
    as_root apt-get update >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
      fail "apt-get could not install: $*. Its own words are above; install them by hand, then try again."
  fi
}

# package_of COMMAND prints the Debian package that brings a command: mostly of the same name.
package_of() {
  case $1 in
    go) echo golang-go ;;
    node) echo nodejs ;;
    initdb) echo postgresql ;;
    *) echo "$1" ;;
  esac
}

# elsewhere prints where Debian puts commands that are not on everybody's PATH, as in a PATH. A server of PostgreSQL that its
# package starts is not used and does no harm: tests have servers of their own, on other ports.
elsewhere() { printf '%s' /usr/sbin:/sbin && printf ':%s' /usr/lib/postgresql/*/bin; }

# debian_commands COMMAND... installs the Debian packages of the commands that are missing.
debian_commands() {
  local missing=() command
  for command in "$@"; do
    PATH=$PATH:$(elsewhere) command -v "$command" >/dev/null || missing+=("$(package_of "$command")")
  done
  [ ${#missing[@]} -eq 0 ] || debian "${missing[@]}"
}

# find_python prints the newest interpreter that the lock files were made for, else a python3 that is newer still.
# A candidate must run: a shim of a version manager may be there without its interpreter behind it.
find_python() {
  local candidate found
  for candidate in ${LOOMPROXY_PYTHON:-python3.13 python3.12 python3.11 python3}; do
    found=$("$candidate" -c 'import os, sys
if sys.version_info < (3, 11) or sys.implementation.name != "cpython": sys.exit(1)
print(os.path.realpath(sys.executable))' 2>/dev/null) || continue
    printf '%s\n' "$found"
    return 0
  done
  return 1
}

# make_venv creates `.venv` anew, with pip in it.
make_venv() {
  local base
  if ! base=$(find_python); then
    [ -z "${LOOMPROXY_PYTHON:-}" ] ||
      fail "LOOMPROXY_PYTHON: $LOOMPROXY_PYTHON is not a CPython of 3.11 or later. Name one that is, or unset it."
    debian python3 python3-venv
    base=$(find_python) || fail "python3: $(python3 --version 2>&1) is below 3.11. Install CPython 3.11 or later, then try again."
  fi
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    debian "$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  fi
  say "creating $venv with $("$base" --version) ($base)"
  "$base" -m venv --clear "$venv" || fail "$venv could not be made; the words of $base are above. Remove $venv, then try again."
}

# is_current LOCK is true when `.venv` was made from the lock file as it is now, and its interpreter still exists.
is_current() { [ -x "$python" ] && cmp -s "$root/requirements/$1.txt" "$venv/$1.lock"; }

# works is true when the interpreter of `.venv` is new enough and has its pip; a half-made environment has not.
works() {
  "$python" -c 'import pip, sys
sys.exit(sys.version_info < (3, 11) or not pip.__file__.startswith(sys.argv[1]))' "$venv/" 2>/dev/null
}

# install LOCK... puts the packages of the lock files into `.venv`, each with a known hash, and lays the stamps.
install() {
  local lock
  works || make_venv
  for lock in "$@"; do
    rm -f "$venv/$lock.lock"
    say "installing what requirements/$lock.txt names"
    "$python" -m pip install --disable-pip-version-check --no-input --no-deps --require-hashes --only-binary :all: \
      -r "$root/requirements/$lock.txt" >&2 ||
      fail "requirements/$lock.txt could not be installed; pip's words are above. Is the package registry reachable? Then try again."
  done
  for lock in "$@"; do
    cp "$root/requirements/$lock.txt" "$venv/$lock.lock.new"
    mv "$venv/$lock.lock.new" "$venv/$lock.lock"
  done
}

# bootstrap LOCK... makes `.venv` hold these lock files (runtime, dev, load, fuzz), in this order.
bootstrap() {
  local lock wanted=0
  for lock in "$@"; do
    is_current "$lock" || wanted=1
  done
  [ $wanted -eq 1 ] || return 0
  mkdir -p "$root/.cache" || fail "$root is not writable. The environment is made beside the project: copy it to a place of yours."
  {
    if ! flock --nonblock 9; then
      say "another script is setting up $venv; waiting for it"
      flock --wait $BOOTSTRAP_WAIT_MAX_S 9 || fail "$venv was still being set up after $BOOTSTRAP_WAIT_MAX_S s. End that script, then try again."
    fi
    local missing=()
    for lock in "$@"; do
      is_current "$lock" || missing+=("$lock")
    done
    if [ ${#missing[@]} -gt 0 ]; then
      say "setting up $venv (on first use, and when a lock file has changed)"
      install "${missing[@]}"
      say "ready"
    fi
  } 9>"$root/.cache/bootstrap.lock"
}
