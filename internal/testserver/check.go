package testserver

import "time"

// offer is what a check found: releases to offer, a refusal as app status, or
// neither, which means "noupdate".
type offer struct {
	releases []floor // reason "" for those that are no floors
	refused  string
}

// check answers an <updatecheck>, in Nebraska's order: register, refuse while
// in progress, look for a package, repeat a held grant past all policy, compare
// versions, ask the policy, grant. The caller holds s.mu.
func (s *Server) check(c contact, now time.Time) offer {
	r, ok := s.register(c, now)
	switch g := c.group; {
	case !ok:
		return offer{refused: statusRegistration}
	case r != nil && r.Status.wedged():
		return offer{refused: statusInProgress}
	case g.release == nil:
		return offer{refused: statusNoPackage}
	case r != nil && r.Status == Granted:
		return s.repeat(c, r, now)
	case !newer(*g.release, c.version):
		return offer{}
	}
	found := s.releasesFor(c)
	if c.syncer && !c.multipleManifestOK && found[0].reason != "" {
		return offer{} // another Nebraska that mirrors this one must not skip a floor
	}
	if status := s.refusal(c.group, r, now); status != "" {
		return offer{refused: status}
	}
	if r == nil {
		return offer{} // the false noupdate: a grant for a row that was not seen fails
	}
	// One that takes several manifests has them all granted, an ordinary client
	// the first step.
	r.grant(found[len(found)-1].release.Version, now)
	r.Offers++
	return offer{releases: found}
}

// repeat answers a check of an instance that holds a bare grant: the channel's
// present package, whatever it is by now, while the version granted first
// stays the one that completion records. An instance that has reached the
// granted version has completed it.
func (s *Server) repeat(c contact, r *row, now time.Time) offer {
	granted := Release{Version: r.GrantedVersion, AnyVersion: c.group.release.AnyVersion}
	if !newer(granted, c.version) {
		r.move(Complete, cause{now: now})
		return offer{}
	}
	r.Offers++
	return offer{releases: s.releasesFor(c)}
}

// newer tells whether an instance that runs version is to be offered r.
func newer(r Release, version string) bool {
	if r.AnyVersion {
		return r.Version != version
	}
	return parsedVersion(version).LT(parsedVersion(r.Version))
}

// releasesFor returns the next step towards the group's release, at least one:
// the lowest floor above the instance's version, or the release itself. One
// that takes several manifests gets all the steps.
func (s *Server) releasesFor(c contact) []floor {
	target := *c.group.release
	var steps []floor
	for _, f := range c.group.floors {
		v := parsedVersion(f.release.Version)
		if v.GT(parsedVersion(c.version)) && v.LTE(parsedVersion(target.Version)) {
			steps = append(steps, f)
		}
	}
	if len(steps) == 0 || steps[len(steps)-1].release.Version != target.Version {
		steps = append(steps, floor{release: target})
	}
	if !c.multipleManifestOK {
		return steps[:1]
	}
	return steps
}
