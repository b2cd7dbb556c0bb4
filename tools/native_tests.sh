#!/usr/bin/env bash
# The C++ tests without Python: as released, under the sanitizers, and for ARM under emulation. Fails when one does.
#
#   tools/native_tests.sh [--install]
#
# ARM needs a cross compiler and qemu. Where they are missing that part is left out and said so; --install lets root
# fetch them from Debian or Ubuntu first.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/native
digests=cpp/tests/digests.txt
cross=aarch64-linux-gnu
export PATH="$PATH:$PWD/.venv/bin"
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

command -v cmake >/dev/null || { echo "The native tests need cmake (pip install cmake)." >&2; exit 1; }

say() { printf '%4ss  %s\n' "$SECONDS" "$*"; }

# compile PRESET (CMakePresets.json says what each is)
compile() {
  say "$1: build"
  mkdir -p "$build/$1"
  if ! { cmake --preset "$1" && cmake --build --preset "$1" --parallel "$(nproc)"; } >"$build/$1/log" 2>&1; then
    tail -n 40 "$build/$1/log"
    return 1
  fi
}

# A library's inline function compiled with the flags of one instruction set might be the copy the linker keeps for
# everybody: every weak symbol of such an object must carry the name of its own namespace.
own_symbols() {
  local object isa foreign
  for object in "$build/$1"/CMakeFiles/loqal_kernels.dir/cpp/targets/*.o; do
    isa=$(basename "$object" .cpp.o)
    [ "$isa" = plain ] || [ "$isa" = dispatch ] && continue
    foreign=$("${2-}nm" -C --defined-only "$object" | grep -E '^[0-9a-f]* [WVu] ' | grep -v -e "loqal::$isa::" -e DW.ref || true)
    if [ -n "$foreign" ]; then
      printf '%s shares these functions with the rest of the program:\n%s\n' "$object" "$foreign"
      return 1
    fi
  done
}

run() {
  local name=$1
  shift
  say "$name: run"
  "$@"
}

install_cross() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  say "arm: install a cross compiler and qemu"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++-$cross qemu-user; } \
    >/dev/null 2>&1 || true
}

arm() {
  if ! command -v $cross-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    [ "${1-}" = --install ] && install_cross
  fi
  if ! command -v $cross-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    say "arm: LEFT OUT, there is no $cross-g++ or no qemu-aarch64 (Debian: g++-$cross qemu-user)"
    return
  fi
  compile arm
  own_symbols arm $cross-
  local emulated=(qemu-aarch64 -L "/usr/$cross")
  run "arm with i8mm" "${emulated[@]}" -cpu max "$build/arm/cpp/tests/native_tests" $digests
  # Older cores must be given tables they can run.
  for core in cortex-a76 cortex-a72; do
    run "arm, $core" "${emulated[@]}" -cpu $core "$build/arm/cpp/tests/native_tests" $digests panel/Q8_0 panel/Q4_K
  done
}

compile release
own_symbols release
run release "$build/release/cpp/tests/native_tests" $digests

compile memory
run memory "$build/memory/cpp/tests/native_tests" $digests

compile threads
run threads "$build/threads/cpp/tests/native_tests" $digests pool memory cpu decoder encode/Q4_K

if [ "$(uname -m)" != aarch64 ]; then arm "${1-}"; fi
say "native tests passed"
