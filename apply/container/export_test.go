package container

import "time"

// Hasty is a Service that waits for its engine less long.
func Hasty(s Service) Service {
	s.times = &times{call: 2 * time.Second, change: 2 * time.Second, create: 2 * time.Second, rollBack: 4 * time.Second, pause: 10 * time.Millisecond}
	return s
}

// Patience is patience.
var Patience = patience
