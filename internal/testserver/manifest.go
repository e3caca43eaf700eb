package testserver

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"path"
)

// SHA1Base64 is how Nebraska announces the main package's hash.
func SHA1Base64(content []byte) string {
	sum := sha1.Sum(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// SHA1Hex is another encoding of the same.
func SHA1Hex(content []byte) string {
	sum := sha1.Sum(content)
	return hex.EncodeToString(sum[:])
}

// SHA256Base64 is how go-omaha's own server announces SHA-256, and how Flatcar's
// action does.
func SHA256Base64(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// SHA256Hex is how Nebraska announces SHA-256 of extra files.
func SHA256Hex(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// FilePath returns where the payload host serves a release's file, relative to
// its URL: what PayloadHost.Fail and PayloadHost.Stats take. A file without a
// name is served as "payload".
func FilePath(appID, version, name string) string {
	if name == "" {
		name = "payload"
	}
	return path.Join(appID, version, name)
}

// offered writes releases as the answer to a check. The codebases are those of
// the last one, the target.
func (s *Server) offered(c contact, steps []floor) *xmlUpdateCheck {
	check := &xmlUpdateCheck{Status: checkOK}
	target := steps[len(steps)-1].release
	for _, url := range s.codebases(c.group.appID, target) {
		check.URLs.URLs = append(check.URLs.URLs, xmlURL{url})
	}
	for i, step := range steps {
		m := manifestOf(step.release)
		if c.multipleManifestOK {
			m.IsFloor, m.FloorReason = step.reason != "", step.reason
			m.IsTarget = i == len(steps)-1
		}
		check.Manifests = append(check.Manifests, m)
	}
	for _, more := range target.More {
		check.Manifests = append(check.Manifests, manifestOf(more))
	}
	return check
}

func (s *Server) codebases(appID string, r Release) []string {
	dir := path.Join(appID, r.Version) + "/"
	if len(r.Files) > 0 && r.Files[0].Name == "" {
		dir = FilePath(appID, r.Version, "")
	}
	host := s.Payloads.URL()
	var urls []string
	switch {
	case r.Image != "":
		urls = []string{r.Image}
	case r.Codebases != nil:
		urls = append(urls, r.Codebases...)
	default:
		urls = []string{host + dir}
	}
	for _, label := range r.Mirrors {
		urls = append(urls, host+MirrorPath(label, dir))
	}
	return urls
}

func manifestOf(r Release) *xmlManifest {
	m := &xmlManifest{Version: r.Version}
	list := &m.Packages.Packages
	if r.Image != "" {
		*list = append(*list, xmlPackage{Required: true})
	}
	for _, f := range r.Files {
		*list = append(*list, packageOf(f, len(*list) == 0))
	}
	if a := r.Action; a != nil {
		action := xmlAction(*a)
		if action.Event == "" {
			action.Event = "postinstall"
		}
		m.Actions.Actions = []xmlAction{action}
	}
	return m
}

func packageOf(f File, first bool) xmlPackage {
	p := xmlPackage{Name: f.Name, SHA1: f.SHA1, SHA256: f.SHA256, Size: f.Size, Required: first && !f.Optional}
	if p.Size == 0 {
		p.Size = int64(len(f.Content))
	}
	p.Size = max(p.Size, 0) // SizeUnknown
	if p.SHA1 == "" && f.Content != nil {
		p.SHA1 = SHA1Base64(f.Content)
	}
	if p.SHA256 == "" && f.Content != nil && !first {
		p.SHA256 = SHA256Hex(f.Content)
	}
	if p.SHA1 == None {
		p.SHA1 = ""
	}
	if p.SHA256 == None {
		p.SHA256 = ""
	}
	if f.ContentType != "" || f.Metadata != "" {
		p.Metadata = &xmlMetadata{f.ContentType, f.Metadata}
	}
	return p
}
