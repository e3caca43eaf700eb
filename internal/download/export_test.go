package download

import "os"

// WithWrite returns job with a disk whose writes are done by fn; the tests use it to make disks fail.
func WithWrite(job Job, fn func(f *os.File, p []byte, off int64) (int, error)) Job {
	job.faults.write = fn
	return job
}

// WithFree returns job with a disk that has free bytes left.
func WithFree(job Job, free func() int64) Job {
	job.faults.free = func(*os.File) (int64, error) { return free(), nil }
	return job
}

// PartialName is the name of job's partial file.
func PartialName(job Job) string { return job.identity() + partialSuffix }

// ParseContentRange is parseContentRange, with its result in pieces.
func ParseContentRange(s string) (first, last, total int64, err error) {
	r, err := parseContentRange(s)
	return r.first, r.last, r.total, err
}
