package container

import "time"

// Hasty is a Service that waits for its engine less long.
func Hasty(s Service) Service {
	s.times = &times{call: time.Second, change: time.Second, create: time.Second, rollBack: 3 * time.Second, pause: 10 * time.Millisecond}
	return s
}

// Patience is patience.
var Patience = patience
