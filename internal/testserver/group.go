package testserver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver"
)

// Architectures, as Nebraska names them. AnyArch is a convenience of this
// package: a group that serves machines of all those that have no group of
// their own.
const (
	AnyArch = ""
	AMD64   = "amd64"
	AArch64 = "aarch64"
	X86     = "x86"
)

// Group is what Nebraska calls a group with its channel: a track of an app for
// one architecture, with its policy and its present release.
type Group struct {
	server             *Server
	appID, track, arch string

	// The server's lock guards what follows.
	policy  Policy
	release *Release
	floors  []floor
}

type floor struct {
	release Release
	reason  string
}

// groupKey finds a group. Nebraska compares app ids without regard to case and
// braces, tracks exactly.
type groupKey struct{ app, track, arch string }

// appKey is Nebraska's way to compare app ids: blanks and one pair of braces
// around them are dropped, case does not count.
func appKey(id string) string {
	id = strings.TrimSpace(id)
	if len(id) > 2 && id[0] == '{' && id[len(id)-1] == '}' {
		id = strings.TrimSpace(id[1 : len(id)-1])
	}
	return strings.ToLower(id)
}

// AddGroup adds a group without a release; an app exists from its first group
// on. It panics if the same group is there already.
func (s *Server) AddGroup(appID, track, arch string, p Policy) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := groupKey{appKey(appID), track, arch}
	if s.groups[key] != nil {
		panic(fmt.Sprintf("testserver: add group %s %s %q: it exists, use Group.Publish and Group.ChangePolicy", appID, track, arch))
	}
	g := &Group{server: s, appID: appID, track: track, arch: arch, policy: p}
	s.groups[key] = g
	return g
}

// findGroup returns the group for a request, nil if Nebraska would know none.
// The caller holds s.mu.
func (s *Server) findGroup(appID, track, arch string) *Group {
	key := groupKey{appKey(appID), track, arch}
	if g := s.groups[key]; g != nil {
		return g
	}
	key.arch = AnyArch
	return s.groups[key]
}

// archOf maps what a request says to one of Nebraska's architectures: CoreOS'
// board first, then os.arch in Omaha's or in Nebraska's own words. Anything
// else, Go's arm64 included, is taken for amd64 (Nebraska, getArch).
func archOf(board, osArch string) string {
	switch board {
	case "amd64-usr":
		return AMD64
	case "arm64-usr":
		return AArch64
	}
	switch osArch {
	case "x64", "amd64":
		return AMD64
	case "arm", "aarch64":
		return AArch64
	case "x86":
		return X86
	case "all":
		return "all"
	}
	return AMD64
}

// Publish points the group's channel to a release, newer or older, and puts its
// files on the payload host (where files of several architectures need names of
// their own). It panics if the version is no semantic version,
// which Nebraska would not store.
func (g *Group) Publish(r Release) {
	g.hostFiles(r)
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	g.release = &r
}

// Unpublish leaves the channel without a package: error-noPackageFound.
func (g *Group) Unpublish() {
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	g.release = nil
}

// AddFloor adds a release that instances older than it must take before the
// present one. Ordinary clients get one at a time, without a word that it is a
// floor; one that says multi_manifest_ok gets all of them and the target, each
// marked. An empty reason becomes Nebraska's own words.
func (g *Group) AddFloor(r Release, reason string) {
	g.hostFiles(r)
	if reason == "" {
		reason = "Required intermediate version"
	}
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	g.floors = append(g.floors, floor{r, reason})
	slices.SortStableFunc(g.floors, func(a, b floor) int {
		return parsedVersion(a.release.Version).Compare(parsedVersion(b.release.Version))
	})
}

// Policy returns the group's policy as it stands; Disabled tells whether the
// server has switched the group off.
func (g *Group) Policy() Policy {
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	return g.policy
}

// ChangePolicy changes the group's policy, as the administrator does.
func (g *Group) ChangePolicy(change func(*Policy)) {
	g.server.mu.Lock()
	defer g.server.mu.Unlock()
	change(&g.policy)
}

// hostFiles puts the files of a release and of those behind it on the payload
// host.
func (g *Group) hostFiles(r Release) {
	if _, err := semver.Make(r.Version); err != nil && !r.AnyVersion {
		panic(fmt.Sprintf("testserver: publish %s %q: %v; Nebraska takes semantic versions only (AnyVersion for other servers)", g.appID, r.Version, err))
	}
	for _, f := range r.Files {
		if f.Content != nil {
			g.server.Payloads.Put(FilePath(g.appID, r.Version, f.Name), f.Content)
		}
	}
	for _, m := range r.More {
		g.hostFiles(m)
	}
}

// parsedVersion is 0.0.0 for what is no semantic version, as in Nebraska.
func parsedVersion(v string) semver.Version {
	parsed, _ := semver.Make(v)
	return parsed
}
