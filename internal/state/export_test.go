package state

import "io"

// What tests need of the inside.
var (
	OpenOn     = openDir // Open on the machine that the third argument stands for
	HostHash   = hostHash
	Encode     = encode
	Decode     = decode
	ErrBroken  = errBroken
	ErrForeign = errForeign
)

// The bounds of an outbox.
const (
	MaxSent         = maxSent
	MaxReports      = maxReports
	MaxFinalReports = maxFinalReports
	MaxAside        = maxAside
)

// How far the numbers of updates and reports, and of transactions, are believed.
const (
	MaxSeq uint64 = maxSeq
	MaxTx  uint64 = maxTx
)

// Sound checks what every record must be like.
func (a *App) Sound() error { return a.sound() }

// ReadJournal reads a journal as Open does, without opening it.
func ReadJournal(file io.ReaderAt, size int64, machine string) (map[string]*App, error) {
	return (&store{machine: machine}).readFrom(file, size)
}

// Walk reads a file of bbolt's, whatever is in it.
func Walk(file io.ReaderAt, size int64) error {
	return walk(file, size, func(string, []byte, []byte) error { return nil })
}

// Total is what a journal of these records says of all of them together.
func Total(values map[string][]byte) string {
	var t total
	t.written(values)
	return string(t.with(nil))
}

// Transactions tells how many transactions a journal has seen.
func Transactions(file io.ReaderAt) (uint64, error) {
	m, err := newestMeta(file)
	return m.tx, err
}
