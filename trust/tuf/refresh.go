package tuf

import (
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/nebraska/omahaclient/trust"
)

// download reads a file of metadata of at most limit bytes.
type download func(path string, limit int64) ([]byte, error)

// DownloadFile makes it go-tuf's fetcher. Time limits are the context's, which go-tuf has no room for.
func (d download) DownloadFile(path string, limit int64, _ time.Duration) ([]byte, error) {
	return d(path, limit)
}

// ask answers a claim from the repository, or with cached from what is on disk alone; get then is asked for what is not there.
func (v *Verifier) ask(claim trust.Claim, get download, cached bool) (release trust.Release, err error) {
	store, err := openStore(claim.Dir, v.config.Root, v.config.Logger)
	if err != nil {
		return trust.Release{}, err
	}
	u, err := v.updater(store, get, cached)
	if err != nil {
		return trust.Release{}, fmt.Errorf("open the cached metadata: %w", err)
	}
	u.UnsafeSetRefTime(now(claim)) // unsafe as it decides what has expired
	defer func() {
		err = errors.Join(err, store.keep(u.GetTrustedMetadataSet().Root.Signed.Version))
	}()
	err = safely(func() error {
		if err := u.Refresh(); err != nil {
			return verdict(err)
		}
		payloads, err := v.vouched(claim, func(path string) (*metadata.TargetFiles, error) { return find(u, path) })
		if err != nil {
			return err
		}
		release = trust.Release{Version: claim.Version, Expires: expiry(u.GetTrustedMetadataSet()), Where: v.where, Payloads: payloads}
		return nil
	})
	return release, err
}

// updater is go-tuf's, which lives for one refresh. Its cache starts from the newest root of the chain: left alone, it
// would start from the pinned one each time, and believe revoked keys of a repository that withholds later roots.
func (v *Verifier) updater(s *store, get download, cached bool) (*updater.Updater, error) {
	return updater.New(&config.UpdaterConfig{
		MaxRootRotations:   int64(v.config.MaxRoots),
		MaxDelegations:     v.config.MaxDelegations,
		RootMaxLength:      v.config.MaxMetadata,
		TimestampMaxLength: v.config.MaxMetadata,
		SnapshotMaxLength:  v.config.MaxMetadata,
		TargetsMaxLength:   v.config.MaxMetadata,
		Fetcher:            s.watch(get),
		LocalTrustedRoot:   s.root,
		LocalMetadataDir:   s.metadata,
		LocalTargetsDir:    s.metadata, // must be a folder; nothing is put there
		RemoteMetadataURL:  v.config.MetadataURL,
		UnsafeLocalMode:    cached, // unsafe as it does not look for newer ones
	})
}

func now(claim trust.Claim) time.Time {
	if claim.Now.IsZero() {
		return time.Now()
	}
	return claim.Now
}

// find looks a target up, through delegations. go-tuf has no type for "nobody lists it", only this sentence: were it another
// one some day, an unlisted payload would be refused as malformed.
func find(u *updater.Updater, path string) (*metadata.TargetFiles, error) {
	target, err := u.GetTargetInfo(path)
	if err != nil && err.Error() == fmt.Sprintf("target %s not found", path) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up target %s: %w", path, verdict(err))
	}
	return target, nil
}

// expiry is when the first of the metadata that were used expires.
func expiry(set trustedmetadata.TrustedMetadata) time.Time {
	first := set.Root.Signed.Expires
	others := []time.Time{set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires}
	for _, role := range set.Targets {
		others = append(others, role.Signed.Expires)
	}
	for _, t := range others {
		if t.Before(first) {
			first = t
		}
	}
	return first
}
