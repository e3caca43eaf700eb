package testserver

import "time"

// None, as a hash of a File, leaves the hash out.
const None = "none"

// SizeUnknown, as the size of a File, announces it as 0, which Omaha takes for
// unknown.
const SizeUnknown = -1

// Release is a package of a channel: what is offered to instances that run an
// older version.
type Release struct {
	Version string
	// AnyVersion makes the server offer this release to every instance that does
	// not run exactly it, as other servers than Nebraska may: versions of four
	// parts, dates, downgrades. Without it Version is a semantic version.
	AnyVersion bool
	// Files are the packages of the manifest, the main one first. Those with
	// Content are served by the payload host below /APP/VERSION/.
	Files []File
	// Image, a reference such as registry.example/ns/app:1.5.0, makes this the
	// release of a container image as Nebraska sends it: the reference is the
	// codebase, the package has neither name nor hash, its size is 0. Extra
	// Files may follow.
	Image string
	// Codebases replace the payload host's URL, verbatim, in this order: with or
	// without a final slash, of other hosts, or the whole URL beside a file with
	// an empty name.
	Codebases []string
	// Mirrors are labels. Each adds a codebase of the payload host, after the
	// first, that serves the same files below /m/LABEL/ with faults and counters
	// of their own.
	Mirrors []string
	// Action is added to the manifest; Flatcar's packages have one.
	Action *Action
	// More are further manifests of the same answer, sent after this one to
	// every client. (Nebraska sends several to clients that say
	// multi_manifest_ok only: see Group.AddFloor.)
	More []Release
}

// File is a package of a release. By default its size and hashes are those of
// Content, announced as Nebraska does: base64 SHA-1 for the main package only,
// both base64 SHA-1 and hex SHA-256 for the extra files.
type File struct {
	Name    string
	Content []byte
	// SHA1 and SHA256 replace what is announced, verbatim (see SHA1Base64 and its
	// siblings): other encodings, the hash of something else, junk, or None.
	SHA1, SHA256 string
	// Size replaces the announced size in bytes. SizeUnknown announces 0.
	Size int64
	// Optional announces required="false" for the main package; extra files are
	// always announced so.
	Optional bool
	// ContentType and Metadata make up the <metadata> element that go-omaha's
	// flatcar branch knows. Without both there is none.
	ContentType, Metadata string
}

// Action is Flatcar's <action> of a manifest. Zero fields are left out, but the
// event, which is "postinstall" by default.
type Action struct {
	Event                 string
	DisplayVersion        string
	SHA256                string // of the main package, base64
	DisablePayloadBackoff bool
	MaxFailureCountPerURL uint
	Deadline              string
}

// Policy is the rollout policy of a group. The zero Policy lets everything
// through, which is what a group has after Nebraska's administrator lifted
// every limit.
type Policy struct {
	// Disabled refuses every new grant: error-updatesDisabled. It is set by the
	// server itself when a group in safe mode times out.
	Disabled bool
	// MaxUpdates is how many instances may be granted an update within Period,
	// and how many updates may be under way at a time. 0 means no limit.
	MaxUpdates int
	// Period defaults to 15 minutes.
	Period time.Duration
	// SafeMode lets one instance only go first with a version, and switches the
	// group's updates off when updates in progress have outlived Timeout.
	SafeMode bool
	// Timeout is how long a grant counts as under way. It defaults to 60 minutes.
	Timeout time.Duration
}
