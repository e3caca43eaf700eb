package fetcher

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nebraska/omahaclient/internal/download"
)

// sum makes one progress of many: that of an image. Safe for concurrent use.
type sum struct {
	tell func(done, total int64)

	mu    sync.Mutex // guards what follows; held while tell runs, so that calls come in order
	total int64
	done  int64
	each  map[digest.Digest]int64
	blobs map[digest.Digest]PulledBlob
}

func newSum(tell func(done, total int64)) *sum {
	return &sum{tell: tell, each: map[digest.Digest]int64{}, blobs: map[digest.Digest]PulledBlob{}}
}

// begin is called once the total is known; the manifests are here by then.
func (s *sum) begin(total int64, manifests []ocispec.Descriptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = total
	for _, d := range manifests {
		s.done += d.Size
	}
	s.say()
}

// part returns the progress of one blob.
func (s *sum) part(d digest.Digest) func(done, total int64) {
	return func(done, _ int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done += done - s.each[d]
		s.each[d] = done
		s.say()
	}
}

func (s *sum) say() {
	if s.tell != nil {
		s.tell(s.done, s.total)
	}
}

// note keeps what a finished blob took.
func (s *sum) note(d ocispec.Descriptor, got download.Result, reused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.blobs[d.Digest]; !twice {
		s.blobs[d.Digest] = PulledBlob{Digest: d.Digest.String(), Size: got.Size, Reused: reused, Received: got.Received}
	}
}

// report lists what was noted in the order of all.
func (s *sum) report(all []ocispec.Descriptor) []PulledBlob {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]PulledBlob, len(all))
	for i, d := range all {
		list[i] = s.blobs[d.Digest]
		list[i].MediaType = d.MediaType
	}
	return list
}
