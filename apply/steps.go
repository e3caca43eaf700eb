package apply

// steps is told of each step of an update, before it is taken and after: tests end the process there. It is nil otherwise.
type steps func(point string)

// take takes a step.
func (s steps) take(name string, step func() error) error {
	if s == nil {
		return step()
	}
	s("before: " + name)
	err := step()
	s("after: " + name)
	return err
}
