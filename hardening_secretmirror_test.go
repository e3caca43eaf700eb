package omahaclient_test

import (
	"html"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
)

// mirror is an answer with what its request showed in some place of it, SHOWN.
type mirror struct {
	status       int
	header, body string
}

// mirrors show it in every place of an Omaha answer that messages quote. None is a usable offer: that would have the version that it has.
func mirrors() []mirror {
	const taken = `<event status="ok"/><event status="ok"/><event status="ok"/>`
	app := func(status, elements string) mirror {
		return mirror{200, "text/xml", `<response protocol="3.0" server="SHOWN"><app appid="` + appA + `" status="` + status + `">` + taken + elements + `</app></response>`}
	}
	offer := func(version, name, size, urls string) mirror {
		return app("ok", `<updatecheck status="ok"><urls>`+urls+`</urls><manifest version="`+version+`"><packages><package name="`+name+`" size="`+size+
			`"/></packages></manifest></updatecheck>`)
	}
	const host = `<url codebase="http://127.0.0.1:1/"/>`
	return []mirror{
		app("SHOWN", ""), app("error-SHOWN", ""), app("ok", `<updatecheck status="SHOWN"/>`), app("ok", `<updatecheck status="noupdate"/>`),
		offer("SHOWN SHOWN", "a", "1", host), offer("SHOWN", "SHOWN", "many", ""), offer("2.0.0", "a", "SHOWN bytes", host), offer("SHOWN", "a", "-SHOWN bytes", host),
		{200, "text/xml", `<response protocol="SHOWN"/>`}, {200, "text/xml", `<SHOWN/>`}, {200, "text/xml", `<?xml version="1.0" encoding="SHOWN"?><response/>`},
		{200, `text/xml; charset="SHOWN"`, `<response/>`}, {200, "text/SHOWN", `<response/>`},
		{403, strings.Repeat("x", 90) + "SHOWN", strings.Repeat("x", 150) + "SHOWN"}, {404, "text/plain", strings.Repeat(" ", 4<<10-12) + "SHOWN"},
	}
}

// answer shows one word of a request at a time: as it is, in lower case, and each half of it. done tells that each had its turn.
func (m mirror) answer() (answer http.HandlerFunc, done func() bool) {
	var turn, turns atomic.Int64
	answer = func(w http.ResponseWriter, r *http.Request) {
		words := strings.Fields(shown(r))
		turns.Store(int64(4 * len(words)))
		i := int(turn.Add(1) - 1)
		word := words[i/4%len(words)]
		word = []string{word, strings.ToLower(word), word[:len(word)/2], word[len(word)/2:]}[i%4]
		w.Header().Set("Content-Type", strings.ReplaceAll(m.header, "SHOWN", word))
		w.WriteHeader(m.status)
		if strings.Contains(m.body, "<response") {
			word = html.EscapeString(word)
		}
		io.WriteString(w, strings.ReplaceAll(m.body, "SHOWN", word))
	}
	return answer, func() bool { return turns.Load() > 0 && turn.Load() >= turns.Load() }
}
