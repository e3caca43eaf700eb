# What .ci/run and .ci/deep share. To be sourced in the root of the repository.

export GOFLAGS="${GOFLAGS:-} -buildvcs=false" # a clone may belong to another user, which git refuses to read for a stamp
work=$(mktemp -d)
current="the start"
started=0
trap 'status=$?; rm -rf "$work"; [ $status -eq 0 ] || echo "==> FAILED in: $current" >&2' EXIT

heading() { printf '\n==> %s\n' "$*"; }
fail() {
	echo "$*" >&2
	exit 1
}

# step TITLE COMMAND... runs it under a heading and says how long it took. The first failure ends it all.
step() {
	current=$1 started=$SECONDS
	heading "$1"
	shift
	"$@"
	echo "--- $((SECONDS - started)) s"
}

# need_cc installs the C compiler that go test -race wants.
need_cc() {
	command -v "$(go env CC)" >/dev/null && return
	local sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	$sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends gcc libc6-dev
}

# need_podman installs the engine that internal/e2e gives its images to.
need_podman() {
	command -v podman >/dev/null && return
	local sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	$sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends podman runc
}

# each_nested_module COMMAND... runs it in the folder of every module but the root's and the tools'.
each_nested_module() {
	local mod dir
	for mod in $(git ls-files '*/go.mod' | grep -v '^tools/' || true); do
		dir=$(dirname "$mod")
		echo "module $dir"
		(cd "$dir" && in_workspace_or_not "$@")
	done
}

# each_module COMMAND... is each_nested_module with the root.
each_module() {
	"$@"
	each_nested_module "$@"
}

# in_workspace_or_not runs a command without go.work where that does not name the module in this folder.
in_workspace_or_not() {
	local gowork
	gowork=$(go env GOWORK)
	if [ -n "$gowork" ] && ! go list -m -f '{{.Dir}}' | grep -qxF "$PWD"; then
		GOWORK=off "$@"
	else
		"$@"
	fi
}

# fuzz TIME fuzzes every target for that long, two more at a time than there are processors, with a worker each, and lists what they did.
fuzz() {
	local package failed=0
	: >"$work/targets"
	for package in $(git grep -lE '^func Fuzz[A-Z_]' -- '*_test.go' | xargs -r -n1 dirname | sort -u); do
		(cd "$package" && in_workspace_or_not fuzz_build "$package")
	done
	[ "$(grep -c . "$work/targets")" -eq "$(git grep -hE '^func Fuzz[A-Z_]' -- '*_test.go' | grep -c .)" ] || fail "not every func Fuzz… is a target"
	echo "built after $((SECONDS - started)) s"
	export work
	export -f fuzz_one fuzz_line
	xargs -r -P $(($(nproc) + 2)) -a "$work/targets" -L 1 bash -c 'fuzz_one "$@"' "$1" || failed=1
	printf '\n%-24s %-28s %12s %12s %8s\n' package target executions 'a second' inputs
	sort "$work"/*.fuzzed
	echo "$(grep -c . "$work/targets") targets"
	[ $failed -eq 0 ] || fail "a target found something (above); its input is in testdata/fuzz: fix the code, and commit the input"
}

# fuzz_build PACKAGE builds a package's tests for fuzzing, once for all its targets: go test -fuzz would link them anew for each.
fuzz_build() {
	local binary="$work/${1//\//_}.test" target
	go test -c -fuzz Fuzz -o "$binary" .
	for target in $("$binary" -test.list '^Fuzz'); do
		echo "$1 $target $binary $(go list .)" >>"$work/targets"
	done
}

# fuzz_one PACKAGE TARGET BINARY IMPORTPATH fuzzes for the time that is $0, from the inputs in the repository: what earlier runs on this
# machine came upon is not gone through again, which could take all of that time.
# An input is not made smaller (-test.fuzzminimizetime): for those of FuzzArchive that took up to a minute each, in which nothing was fuzzed.
#
# Go before 1.27 sometimes fails at the end of the fuzzing time with nothing but "context deadline exceeded"
# (go.dev/issue/75804): a failure counts when it says anything else.
fuzz_one() {
	local log="$work/$2.log"
	if ! (cd "$1" && "$3" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$0" -test.fuzzminimizetime 1x -test.parallel 1 \
		-test.timeout 0 -test.fuzzcachedir "$work/fuzz/$4") >"$log" 2>&1; then
		if ! grep -q '^ *context deadline exceeded$' "$log" || grep -qE 'Failing input|panic|_test\.go:' "$log"; then
			printf '\n%s\n' "FAILED: $1 $2" >&2
			cat "$log" >&2
			fuzz_line "$1" "$2" "$log" >"$work/$2.fuzzed"
			return 1
		fi
		echo "$2: ended by go.dev/issue/75804, nothing found"
	fi
	fuzz_line "$1" "$2" "$log" | tee "$work/$2.fuzzed"
	grep -q ' execs: [1-9]' "$log" || { echo "$2: nothing was fuzzed" >&2; cat "$log" >&2; return 1; }
}

# fuzz_line PACKAGE TARGET LOG says in one line what the log says at its end.
fuzz_line() {
	awk -v package="$1" -v target="$2" '
	function inSeconds(d,   n) { # 1h2m3s,
		if (d ~ /h/) { n += 3600 * d; sub(/.*h/, "", d) }
		if (d ~ /m/) { n += 60 * d; sub(/.*m/, "", d) }
		return n + d
	}
	/ execs: / {
		for (i = 1; i < NF; i++) {
			if ($i == "elapsed:") seconds = inSeconds($(i + 1))
			if ($i == "execs:") n = $(i + 1) + 0
			if ($i == "(total:") inputs = $(i + 1) + 0
		}
	} END { printf "%-24s %-28s %12d %12d %8d\n", package, target, n, seconds ? n / seconds : 0, inputs }' "$3"
}
