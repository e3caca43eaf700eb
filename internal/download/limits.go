package download

import "time"

// Limits are the engine's tunables. A zero field means its default.
type Limits struct {
	BufferSize    int64         // bytes read before they are hashed and written; default 512 KiB
	MaxSize       int64         // largest blob, bytes; default: any announced size, 8 GiB where none is announced
	AnswerTimeout time.Duration // connection and answer of one request, until its headers are in; default 60 s
	StallTimeout  time.Duration // longest time without a byte of the body; default 30 s
	MinSpeed      int64         // floor rate, bytes per second; default 10; negative: none
	SpeedWindow   time.Duration // the floor rate is measured over this long; default 90 s (as update_engine)
	Tries         int           // failures in a row, without a byte in between, until a mirror is given up; default 5
	RetryWait     time.Duration // wait after the first failure, ± 50 %; doubles with each one; default 500 ms
	RetryWaitMax  time.Duration // default 30 s, and RetryWait at least
	GiveUp        time.Duration // a mirror without a byte for this long is given up even where tries are left; default 15 min
	MaxRetryAfter time.Duration // longest Retry-After that is waited for; a mirror that asks for more is given up; default 5 min
}

// The rest of the limits; nobody needed to tune them yet.
const (
	maxRedirects = 10
	maxRestarts  = 3        // how often one mirror may make us start over
	maxPoor      = 100      // tries at one mirror that brought bytes, but fewer than the floor rate
	spareSpace   = 16 << 20 // bytes that must stay free on the disk
	flushAfter   = time.Second
)

func (l Limits) withDefaults(size int64) Limits {
	orElse(&l.BufferSize, 512<<10)
	orElse(&l.AnswerTimeout, 60*time.Second)
	orElse(&l.StallTimeout, 30*time.Second)
	orElse(&l.SpeedWindow, 90*time.Second)
	orElse(&l.Tries, 5)
	orElse(&l.RetryWait, 500*time.Millisecond)
	orElse(&l.RetryWaitMax, max(30*time.Second, l.RetryWait))
	orElse(&l.GiveUp, 15*time.Minute)
	orElse(&l.MaxRetryAfter, 5*time.Minute)
	if l.MinSpeed == 0 {
		l.MinSpeed = 10
	}
	if l.MaxSize <= 0 {
		l.MaxSize = max(8<<30, size)
	}
	return l
}

func orElse[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
