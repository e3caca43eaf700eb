package state_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient/internal/state"
)

// No time in a record carries the monotonic clock's reading, which stands still while the machine sleeps; whatever fields a
// record comes to have.
func TestDo_keepsWallClockTimes(t *testing.T) {
	j := journal(t)
	for _, tc := range []struct {
		name string
		drop func(*state.App) // what a record cannot have beside the other
	}{
		{"open", func(a *state.App) { a.Pending = nil }},
		{"pending", func(a *state.App) { a.Update = nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, j.Do(t.Name(), func(a *state.App) error {
				*a = *full(time.Now())
				tc.drop(a)
				return nil
			}))
			n := 0
			eachTime("App", reflect.ValueOf(j.Get(t.Name())), func(path string, at *time.Time) {
				if n++; strings.Contains(at.String(), "m=") {
					t.Errorf("%s is %v", path, at)
				}
			})
			if n < 10 {
				t.Errorf("%d times were looked at", n)
			}
		})
	}
}

// full is a record that has everything, and now for every time.
func full(now time.Time) *state.App {
	const id = "id"
	a := &state.App{
		LastSeq: 1, Update: &state.Update{Phase: state.Granted, Seq: 1, Identity: id, Manifest: []byte("{}")}, Pending: &state.Pending{Identity: id},
		Wait: &state.Wait{Identity: id}, Tried: &state.Tried{Identity: id}, Outbox: []state.Report{{Seq: 1}},
		Last: &state.Verdict{Report: state.Report{Type: 3}}, Seen: &state.Seen{}, Fresh: &state.Fresh{},
	}
	eachTime("App", reflect.ValueOf(a), func(_ string, at *time.Time) { *at = now })
	return a
}

// eachTime calls fn for every time in v.
func eachTime(path string, v reflect.Value, fn func(path string, at *time.Time)) {
	switch kind := v.Kind(); {
	case kind == reflect.Pointer && !v.IsNil():
		eachTime(path, v.Elem(), fn)
	case kind == reflect.Slice:
		for i := range v.Len() {
			eachTime(path, v.Index(i), fn)
		}
	case kind == reflect.Struct && v.Type() == reflect.TypeFor[time.Time]():
		at, _ := reflect.TypeAssert[*time.Time](v.Addr())
		fn(path, at)
	case kind == reflect.Struct:
		for i := range v.NumField() {
			eachTime(path+"."+v.Type().Field(i).Name, v.Field(i), fn)
		}
	}
}
