//go:build unix

package docs_test

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// nebraska takes the requests to Nebraska's REST API that publishing takes, as strictly as Nebraska's schemas say
// (flatcar/nebraska, backend/api/spec.yaml), and passes what they say on to an Omaha server.
type nebraska struct {
	token string
	omaha *testserver.Server

	mu       sync.Mutex                // guards what follows
	apps     map[string]bool           // by product id
	channel  string                    // id of the one channel
	group    *testserver.Group         // of the one group
	packages map[string]map[string]any // by id
}

// schema says what a field's values are; a star marks one that is required.
type schema map[string]string

var (
	appConfig     = schema{"name": "text*", "description": "text", "product_id": "text"}
	channelConfig = schema{"application_id": "text*", "arch": "number*", "color": "text*", "name": "text*", "package_id": "text"}
	groupConfig   = schema{
		"name": "text*", "description": "text", "channel_id": "text", "track": "text", "policy_updates_enabled": "bool", "policy_safe_mode": "bool",
		"policy_office_hours": "bool", "policy_timezone": "text*", "policy_period_interval": "text*", "policy_max_updates_per_period": "number*",
		"policy_update_timeout": "text*",
	}
	packageConfig = schema{
		"application_id": "text*", "arch": "number*", "channels_blacklist": "list*", "description": "text*", "filename": "text*", "hash": "text*",
		"size": "text*", "type": "number*", "url": "text*", "version": "text*", "extra_files": "list",
	}
)

func (s schema) check(fields map[string]any) error {
	for name, kind := range s {
		if _, there := fields[name]; !there && strings.HasSuffix(kind, "*") {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name, value := range fields {
		kind, known := s[name]
		if !known {
			return fmt.Errorf("there is no field %s", name)
		}
		if got := kindOf(value); got != strings.TrimSuffix(kind, "*") {
			return fmt.Errorf("%s is a %s, not a %s", name, kind, got)
		}
	}
	return nil
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "text"
	case float64:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "list"
	default:
		return "thing"
	}
}

func object(content []byte) (map[string]any, error) {
	var fields map[string]any
	err := json.Unmarshal(content, &fields)
	return fields, err
}

func (n *nebraska) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+n.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	content, err := io.ReadAll(r.Body)
	fields := map[string]any{}
	if err == nil && r.Header.Get("Content-Type") == "application/json" {
		fields, err = object(content)
	}
	status := http.StatusBadRequest
	if err == nil {
		fields["id"], status, err = n.answer(r.Method+" "+r.URL.Path, fields)
	}
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	answer, err := json.Marshal(fields)
	if err != nil {
		panic(err) // it was JSON
	}
	_, _ = w.Write(answer)
}

// answer does what a request asks for, and returns the id of what it made.
func (n *nebraska) answer(request string, fields map[string]any) (id string, status int, err error) {
	if request == "POST /api/apps" {
		err := appConfig.check(fields)
		if err == nil {
			n.apps[fields["product_id"].(string)] = true
		}
		return "an-app", http.StatusBadRequest, err
	}
	method, path, _ := strings.Cut(request, " ")
	app, what, _ := strings.Cut(strings.TrimPrefix(path, "/api/apps/"), "/")
	if !n.apps[app] {
		return "", http.StatusNotFound, fmt.Errorf("no app %q", app)
	}
	switch method + " " + what {
	case "POST channels":
		n.channel = "a-channel"
		return n.channel, http.StatusBadRequest, channelConfig.check(fields)
	case "POST groups":
		err := groupConfig.check(fields)
		if err == nil && fields["channel_id"] != n.channel {
			err = fmt.Errorf("no channel %q", fields["channel_id"])
		}
		if err == nil && fields["policy_updates_enabled"] == true {
			n.group = n.omaha.AddGroup(app, fields["track"].(string), testserver.AnyArch, testserver.Policy{})
		}
		return "a-group", http.StatusBadRequest, err
	case "POST packages":
		id := fmt.Sprintf("package-%d", len(n.packages)+1)
		n.packages[id] = fields
		return id, http.StatusBadRequest, packageConfig.check(fields)
	case "PUT channels/" + n.channel:
		err := channelConfig.check(fields)
		if err == nil {
			err = n.publish(fields["package_id"])
		}
		return n.channel, http.StatusBadRequest, err
	default:
		return "", http.StatusNotFound, fmt.Errorf("%s is no request of publishing", request)
	}
}

func (n *nebraska) publish(id any) error {
	p := n.packages[fmt.Sprint(id)]
	if p == nil || n.group == nil {
		return fmt.Errorf("no package %v, or no group", id)
	}
	size, err := strconv.ParseInt(p["size"].(string), 10, 64)
	if err != nil {
		return err
	}
	n.group.Publish(testserver.Release{
		Version: p["version"].(string), Codebases: []string{p["url"].(string)},
		Files: []testserver.File{{Name: p["filename"].(string), SHA1: p["hash"].(string), Size: size}},
	})
	return nil
}

func sha1Of(content []byte) []byte {
	sum := sha1.Sum(content)
	return sum[:]
}
