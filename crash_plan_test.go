package omahaclient_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// crashPlan says where the children die: in turn at all the points that any of them has passed, and at random moments. The stories
// of a test share it.
type crashPlan struct {
	patience time.Duration // a life's longest

	mu    sync.Mutex     // guards what follows
	tries map[string]int // by point
	hits  map[string]int
}

func newCrashPlan(patience time.Duration) *crashPlan {
	return &crashPlan{patience: patience, tries: map[string]int{}, hits: map[string]int{}}
}

// next draws the next child's death: at a point where few should have, at any point, or (nth 0) at a random moment.
func (p *crashPlan) next(r *rand.Rand) (point string, nth int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.IntN(10) {
	case 0:
		return "", 1 + r.IntN(120)
	case 1:
		return "", 0
	}
	least := 1 << 30
	var rare []string
	for point, n := range p.tries {
		switch {
		case n < least:
			least, rare = n, []string{point}
		case n == least:
			rare = append(rare, point)
		}
	}
	if len(rare) == 0 {
		return "", 1
	}
	slices.Sort(rare)
	point = rare[r.IntN(len(rare))]
	p.tries[point]++
	return point, 1 + r.IntN(3)*r.IntN(2)
}

// seen notes that there is such a point.
func (p *crashPlan) seen(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries[point] += 0
}

func (p *crashPlan) killed(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[point]++
}

// String lists how often children died where.
func (p *crashPlan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	sum := 0
	for _, point := range slices.Sorted(maps.Keys(p.hits)) {
		fmt.Fprintf(&b, "%5d %s\n", p.hits[point], point)
		sum += p.hits[point]
	}
	fmt.Fprintf(&b, "%5d in all; never at:", sum)
	for _, point := range slices.Sorted(maps.Keys(p.tries)) {
		if p.hits[point] == 0 {
			fmt.Fprintf(&b, " %q", point)
		}
	}
	return b.String()
}

// count adds to what a test counts over all its stories.
func (p *crashPlan) count(sum *int, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*sum += n
}
