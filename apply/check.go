package apply

import (
	"errors"
	"fmt"
	"reflect"
)

// checker is an Applier that knows whether it could apply an update of the app at all. Each that could not would fail, after the
// machine has got the server's grant for it.
type checker interface {
	check(appID string) error
}

// check finds what is wrong with an Applier before any update is granted.
func check(a Applier, appID string) error {
	if isNil(a) {
		return fmt.Errorf("apply %s: its Applier is nil", appID)
	}
	if c, ok := a.(checker); ok {
		return c.check(appID)
	}
	return nil
}

// isNil reports whether a is nil, or a nil function or pointer.
func isNil(a Applier) bool {
	if a == nil {
		return true
	}
	v := reflect.ValueOf(a)
	return (v.Kind() == reflect.Func || v.Kind() == reflect.Pointer) && v.IsNil()
}

func (m Mux) check(appID string) error {
	a, found := m.find(appID)
	if !found {
		return noApplier(appID)
	}
	return check(a, appID)
}

func (l FleetLock) check(appID string) error {
	if _, err := l.lock(); err != nil {
		return fmt.Errorf("apply %s: %w", appID, err)
	}
	return check(l.Applier, appID)
}

func (c Command) check(appID string) error {
	if len(c.Args) == 0 {
		return fmt.Errorf("apply %s: %w", appID, errNoProgram)
	}
	return nil
}

var errNoProgram = errors.New("run command: Command.Args names no program")
