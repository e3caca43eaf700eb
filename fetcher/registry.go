package fetcher

import (
	"context"
	"fmt"
	"mime"
	"strings"
)

// Registry picks a Fetcher by media type. Keys are media types in lower case without parameters ("binary",
// "application/vnd.oci.image"). A Registry is safe for concurrent use as long as nobody changes the map.
type Registry map[string]Fetcher

// Fetch hands job to the Fetcher of its media type; letter case and parameters of the type do not matter, and none at all
// means "binary". Without a Fetcher for it, the error wraps [ErrUnsupportedType].
func (r Registry) Fetch(ctx context.Context, job Job) (Payload, error) {
	if f := r[BaseType(job.Source.MediaType)]; f != nil {
		return f.Fetch(ctx, job)
	}
	return Payload{}, fmt.Errorf("fetch %.200q: %w %.200q: register a fetcher for it with WithFetcher, or correct the type on the server or in WithPayloadType",
		job.Source.Name, ErrUnsupportedType, job.Source.MediaType)
}

// BaseType returns a media type as [Registry] keys it: in lower case, without parameters; "binary" for an empty one.
func BaseType(mediaType string) string {
	base, _, err := mime.ParseMediaType(mediaType)
	if err != nil { // junk in the parameters does not make the type another one
		base, _, _ = strings.Cut(mediaType, ";")
		base = strings.ToLower(strings.TrimSpace(base))
	}
	if base == "" {
		return "binary"
	}
	return base
}
