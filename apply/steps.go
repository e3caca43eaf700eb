package apply

import "os"

// steps is told of each step of an update, before it is taken and after: tests end the process there. An error from it stands
// in for the step's own: tests break disks with it. It is nil otherwise.
type steps func(point string) error

// take takes a step.
func (s steps) take(name string, step func() error) error {
	if s == nil {
		return step()
	}
	if err := s("before: " + name); err != nil {
		return err
	}
	err := step()
	if after := s("after: " + name); err == nil {
		err = after
	}
	return err
}

// syncFile puts a file's content on disk.
func (s steps) syncFile(f *os.File) error { return s.take("sync file", f.Sync) }
