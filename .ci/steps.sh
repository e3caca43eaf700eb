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

# fuzz TIME fuzzes every target for that long, one after the other.
fuzz() {
	local package target targets=0
	for package in $(git grep -lE '^func Fuzz[A-Z_]' -- '*_test.go' | xargs -r -n1 dirname | sort -u); do
		for target in $(go -C "$package" test -list '^Fuzz' . | grep '^Fuzz'); do
			targets=$((targets + 1))
			echo "$package $target"
			fuzz_one "$package" "$target" "$1"
		done
	done
	echo "$targets targets"
}

# Go before 1.27 sometimes fails at the end of the fuzzing time with nothing but "context deadline exceeded"
# (go.dev/issue/75804): a failure counts when it says anything else.
fuzz_one() {
	local log="$work/fuzz"
	go -C "$1" test -run '^$' -fuzz "^$2\$" -fuzztime "$3" . >"$log" 2>&1 && tail -n 1 "$log" && return
	if grep -q '^ *context deadline exceeded$' "$log" && ! grep -qE 'Failing input|panic|_test\.go:' "$log"; then
		echo "ended by go.dev/issue/75804, nothing found"
		return
	fi
	cat "$log"
	return 1
}
