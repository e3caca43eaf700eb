package trust

import "encoding/json"

// Where statements, indexes and their signatures travel.
const (
	ReleaseSuffix          = ".release.json"         // of a statement: what is appended to a file's name, or to the path of a payload's URL
	ReleaseSignatureSuffix = ".release.json.minisig" // of a statement's signatures
	IndexSignatureSuffix   = ".minisig"              // of an index's signatures: what is appended to the path of its URL

	// ArtifactType is that of the OCI referrer of an image: a manifest with two layers, of the media types MediaTypeRelease and MediaTypeSignature.
	ArtifactType       = "application/vnd.omahaclient.release.v1+json"
	MediaTypeRelease   = "application/vnd.omahaclient.release.v1+json"    // of a statement
	MediaTypeSignature = "application/vnd.omahaclient.release.v1.minisig" // of its signatures
)

// maxMetadata is more than two documents as base64, and some room.
const maxMetadata = 4 * MaxDocument

// metadataJSON is what a package's metadata holds; a server's other fields may stand beside it.
type metadataJSON struct {
	Release []byte `json:"release"`
	Minisig []byte `json:"minisig"`
}

// Metadata returns a statement and its signatures as metadata of a package: for servers that have room for text there, but not for another file.
func Metadata(document, signatures []byte) []byte {
	b, err := json.Marshal(metadataJSON{document, signatures})
	if err != nil {
		panic(err) // bytes always become JSON
	}
	return b
}

// ParseMetadata returns the statement that a package's metadata holds, and whether there is one. It decides nothing about it: that is a Verifier's work.
func ParseMetadata(b []byte) (Signed, bool) {
	var m metadataJSON
	if len(b) > maxMetadata || json.Unmarshal(b, &m) != nil || len(m.Release) == 0 || len(m.Minisig) == 0 ||
		len(m.Release) > MaxDocument || len(m.Minisig) > MaxDocument {
		return Signed{}, false
	}
	return Signed{Where: "package metadata", Document: m.Release, Signatures: m.Minisig}, true
}
