package omahaclient_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The attackers of The Update Framework's list (https://theupdateframework.io/docs/security/, "Attacks and weaknesses"), one by one against
// each way to configure a client; the table in docs/trust.md is made of what is tested here.
func TestAttacks(t *testing.T) {
	tried, stopped := map[string]int{}, map[string]int{}
	for _, table := range attackTables() {
		for _, a := range table.attacks {
			t.Run(strings.NewReplacer(" ", "_", ",", "").Replace(a.threat+"/"+a.who+": "+a.does), func(t *testing.T) {
				for i, set := range table.setups {
					if a.want[i] == none {
						continue
					}
					name := strings.ReplaceAll(set.name, " ", "_")
					passed := t.Run(name, func(t *testing.T) { a.begin(t, set, a.want[i]) })
					if tried[set.name]++; passed && a.want[i].stopped() {
						stopped[set.name]++
					}
				}
			})
		}
	}
	for _, table := range attackTables() {
		t.Log("\n" + table.String())
		for _, set := range table.setups {
			t.Logf("%s: %d attacks tried, %d stopped or noticed", set.name, tried[set.name], stopped[set.name])
		}
	}
}

type attackTable struct {
	head    string
	setups  []setup
	attacks []attack
}

// attackTables are those of docs/trust.md, in the order of TUF's list.
func attackTables() []attackTable {
	files := slices.Concat(installAttacks(), swapAttacks(), rollbackAttacks(), freezeAttacks(), keyAttacks(), transferAttacks())
	images := imageAttacks()
	list := []string{
		"arbitrary install", "endless data", "extraneous files", "rollback", "freeze", "mix and match", "slow retrieval", "wrong software", "key compromise",
	}
	for _, attacks := range [][]attack{files, images} {
		slices.SortStableFunc(attacks, func(a, b attack) int { return slices.Index(list, a.threat) - slices.Index(list, b.threat) })
	}
	return []attackTable{{"files", fileSetups(), files}, {"images", imageSetups(), images}}
}

// String is the table as docs/trust.md has it.
func (a attackTable) String() string {
	var b strings.Builder
	b.WriteString("| attack | by | what |")
	for _, set := range a.setups {
		b.WriteString(" " + set.name + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", 3+len(a.setups)) + "\n")
	before := ""
	for _, row := range a.attacks {
		threat := row.threat
		if threat == before {
			threat = ""
		}
		before = row.threat
		fmt.Fprintf(&b, "| %s | %s | %s |", threat, row.who, row.does)
		for _, o := range row.want {
			fmt.Fprintf(&b, " %s |", o)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// What docs/trust.md says of attacks is what was tried.
func TestAttacks_documented(t *testing.T) {
	page, err := os.ReadFile("docs/trust.md")
	must(t, err)
	for _, table := range attackTables() {
		for _, row := range table.attacks {
			want(t, "outcomes of "+row.does, len(row.want), len(table.setups))
		}
		if !strings.Contains(string(page), "\n"+table.String()) {
			t.Errorf("docs/trust.md has not this table of attacks on %s; put it there:\n%s", table.head, table.String())
		}
	}
}
