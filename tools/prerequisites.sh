#!/bin/sh
# Names what is missing before a build fails with something obscure.
python=${1:-python3}
missing=""
command -v "$python" >/dev/null || missing="$missing python3"
if [ -z "$missing" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "loqal needs Python 3.11 or newer; $python is $("$python" -V 2>&1 | cut -d' ' -f2)." >&2
    echo "Say which one to use: make PYTHON=python3.12 ..." >&2
    exit 1
  }
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
  header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || missing="$missing python3-dev"
fi
command -v g++ >/dev/null || command -v clang++ >/dev/null || missing="$missing g++"
if [ -n "$missing" ]; then
  echo "loqal cannot be built: missing$missing." >&2
  echo "On Debian or Ubuntu: apt-get install$missing" >&2
  exit 1
fi
