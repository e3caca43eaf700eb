// Package tuf lets The Update Framework decide what may be installed: signed metadata with roles, thresholds, delegations, expiry and keys
// that can be revoked. It puts github.com/theupdateframework/go-tuf/v2 behind [trust.Verifier] and is a module of its own, so that
// programs which do not use it do not link it.
//
//	verifier, err := tuf.New(tuf.Config{
//		Root:        root, // root.json, compiled into the program
//		MetadataURL: "https://updates.example.com/tuf/metadata",
//	})
//	…
//	omahaclient.WithApp("io.example.App", version, omahaclient.WithVerifier(verifier))
//
// # What the repository holds
//
// A TUF repository is a folder of static files on any host. Only its metadata are read here; payloads keep coming from where the Omaha
// server sends its clients. Each payload of a release is a target:
//
//	APP/CHANNEL/ARCH/VERSION/NAME        io.example.App/stable/amd64/2.0.0/app.bin
//
// with each part written as [TargetPath] does, or as Config.TargetPath has it. The version is the one that the Omaha server offers,
// spelled as there, ARCH is GOARCH's name, and an image's NAME the last part of its repository. Because the path has them, nothing that
// was released for one version, channel or machine passes for another.
//
// A file's target has the file's length and SHA-256. A container image's has the digest of its manifest or index (the one that a reference
// pins) in its custom part, and may describe any file, the manifest itself for example:
//
//	"io.example.App/stable/amd64/2.0.0/app": {"length": …, "hashes": {…}, "custom": {"image": "sha256:…"}}
//
// A target with an image never vouches for a file, nor the other way round.
//
// A server could leave out one of a release's payloads. Where that matters, list a target with the name [ReleaseName] beside them, whose
// custom part names them all; an offer without one of them is refused then. Its own length and hashes can be those of any file.
//
//	"io.example.App/stable/amd64/2.0.0/release.json": {…, "custom": {"payloads": ["app.bin", "app.conf"]}}
//
// To withdraw a release, publish metadata without its targets: what is listed may be installed. (omahaclient refuses downgrades besides,
// unless told otherwise.)
//
// # What is stopped
//
// Files that nobody signed, or for something else; metadata that are older than those seen before, that have expired, that do not belong
// together or lack signatures; keys that a later root revoked, since the chain of roots is kept, and verified from the pinned one on each
// time; files without end and hosts without hurry.
//
// Of withheld metadata the timestamp's expiry tells: keep it short (a day, say), and sign it anew before that. A server that simply offers
// nothing is never asked about here: omahaclient.WithMaxStaleness alarms when no answer came for too long (no authentic one, with
// WithCUPKeys), or when a signed index, with keys of its own (WithReleaseIndex), names a release that is kept back.
//
// # When the repository is down
//
// Metadata are kept in the folder that the claim names. While none of them has expired they are believed when the repository cannot be
// reached, so that an offer can be verified again after a restart; but only to accept: a release of which they list nothing, or something
// else, may be newer than they are, and is asked about again later. Whoever can cut off the repository thus gains nothing that the
// timestamp's expiry does not allow anyway.
//
// Damaged files in that folder are set aside (NAME.damaged), with a warning, and fetched again; the chain of roots and what else is whole
// keep protecting.
//
// The source is the TUF specification, version 1.0.31 (go-tuf's), section 5, "Detailed client workflow".
package tuf
