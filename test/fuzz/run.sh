#!/bin/sh
# make fuzz: every target for FUZZ_SECONDS (60), FUZZ_JOBS (2) at a time; FUZZ_TARGETS names some of them only.
#
# First the regressions and the corpus are played, then new inputs are made, from what earlier runs have learned
# (build/fuzz/corpus) and from what is kept (test/fuzz/corpus). A finding is written to build/fuzz/found, and told with the
# lines that play, shrink and keep it. Exit: 0 nothing found, 1 something found.
set -u
cd "$(dirname "$0")/../.."
seconds=${FUZZ_SECONDS:-60}
jobs=${FUZZ_JOBS:-2}
targets=${FUZZ_TARGETS:-stack packet fragments border}
out=build/fuzz
found=$out/found
# What the stack allocates is counted by the targets after each input; LeakSanitizer needs ptrace, which containers forbid.
export ASAN_OPTIONS=detect_leaks=0
export UBSAN_OPTIONS=print_stacktrace=1

test/fuzz/build.sh native || exit 1
mkdir -p $found $out/log

report() {
  target=$1 file=$2
  cat >&2 <<EOF
fuzz: $target: a finding, in $file
  again:  $out/$target $file
  shrink: $out/$target -minimize_crash=1 -runs=100000 -exact_artifact_path=$file.small $file
  keep:   cp $file test/fuzz/regressions/$target/NAME     (then mend it: make test and make fuzz play it from now on)
EOF
}

# Every file, in one process: a known input that fails is told by its name.
play() {
  target=$1 log=$2
  set -- $(find test/fuzz/regressions/"$target" test/fuzz/corpus/"$target" -type f 2>/dev/null | sort)
  [ $# -gt 0 ] || return 0 # without an input it would make its own, without end
  $out/"$target" -artifact_prefix="$found/$target-" "$@" > "$log" 2>&1 && return 0
  tail -n 40 "$log" >&2
  report "$target" "$(sed -n 's/^Running: //p' "$log" | tail -n 1)"
  return 1
}

fuzz() {
  target=$1
  log=$out/log/$target corpus=$out/corpus/$target
  mkdir -p "$corpus"
  play "$target" "$log" || return 1
  before=$(ls $found)
  options="-max_total_time=$seconds -timeout=20 -rss_limit_mb=3000 -artifact_prefix=$found/$target- -print_final_stats=1"
  if $out/"$target" $options "$corpus" test/fuzz/corpus/"$target" > "$log" 2>&1; then
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz: $target: $inputs inputs in $seconds s, coverage $(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1), nothing found"
    return 0
  fi
  grep -v -E 'NEW  |REDUCE|pulse  ' "$log" | tail -n 60 >&2
  for file in $found/"$target"-*; do
    case " $(echo $before) " in *" ${file##*/} "*) ;; *) report "$target" "$file" ;; esac
  done
  return 1
}

status=0
running=
count=0
settle() {
  for pid in $running; do wait "$pid" || status=1; done
  running= count=0
}
for target in $targets; do
  fuzz "$target" &
  running="$running $!"
  count=$((count + 1))
  [ $count -lt "$jobs" ] || settle
done
settle
exit $status
