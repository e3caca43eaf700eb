package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/nebraska/omahaclient/internal/secrets"
)

const (
	preReboot   = "v1/pre-reboot"
	steadyState = "v1/steady-state"
	fleetHeader = "Fleet-Lock-Protocol"
)

type fleetRequest struct {
	Client fleetClient `json:"client_params"`
}

type fleetClient struct {
	ID    string `json:"id"`
	Group string `json:"group"`
}

// ask sends one request. Only 200 grants (Zincati, FleetLock protocol).
func (l FleetLock) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout) // a Client that was given may have none
	defer cancel()
	key, err := l.lock()
	if err != nil {
		return err
	}
	base, err := url.Parse(l.URL)
	if err != nil {
		return err
	}
	body, err := json.Marshal(fleetRequest{fleetClient{key.ID, key.Group}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(fleetHeader, "true")
	req.Header.Set("Content-Type", "application/json")
	if l.Authorize != nil {
		if err := l.Authorize(req); err != nil {
			return err
		}
	}
	return l.send(req)
}

func (l FleetLock) send(req *http.Request) (err error) {
	client := l.client()
	hidden := secretsOf(client, req)
	defer func() { err = hidden.Error(err) }()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, probeMaxBody))
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var said struct {
		Kind  string `json:"kind"`
		Value string `json:"value"`
	}
	_ = json.Unmarshal(answer, &said) // not all say why
	return fmt.Errorf("the lock manager answers %s %s %.200q", resp.Status, said.Kind, said.Value)
}

// client returns an HTTP client that follows no redirects: the page that they lead to, a login's for one, grants nothing.
func (l FleetLock) client() *http.Client {
	var client http.Client
	if l.Client != nil {
		client = *l.Client
	} else {
		client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// secretsOf returns what no error may show of a request.
func secretsOf(client *http.Client, req *http.Request) *secrets.Set {
	s := &secrets.Set{}
	s.AddURL(req.URL)
	s.AddProxy(client.Transport, req)
	for name, values := range req.Header {
		if name != fleetHeader && name != "Content-Type" { // what Authorize has added
			s.AddHeader(values...)
		}
	}
	return s
}
