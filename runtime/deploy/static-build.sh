# Environment of a static release build, for bash: source runtime/deploy/static-build.sh
#
# The C library is linked in: glibc and not musl, whose allocator is slower and keeps what is freed (the memory plan
# counts on glibc's settings, see runtime/src/memory/heap.rs). With a target that is named, the flag does not reach
# build scripts and macros, which cannot be static. Names are looked up by the files and dns services, which glibc
# has inside since 2.34; the stage image tries both.
CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
case $CARGO_BUILD_TARGET in
  x86_64-unknown-linux-gnu) export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" ;;
  aarch64-unknown-linux-gnu) export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" ;;
  *)
    echo "no static build for $CARGO_BUILD_TARGET" >&2
    exit 1
    ;;
esac
export CARGO_BUILD_TARGET
