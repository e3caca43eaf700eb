package omahaclient

// WithBootID makes this boot another one than the machine's own, as a restart of the machine would.
func WithBootID(id string) Option { return func(c *config) { c.boot = id } }
