package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxRequest  = 64 << 10 // bytes; Nebraska's limit
	maxAnswer   = 1 << 20  // bytes; clients refuse more
	defaultPath = "/v1/update"
)

// proxy lets requests for updates through, and nothing else.
type proxy struct {
	path    string // of updates, without a final slash
	keys    map[string]*ecdsa.PrivateKey
	forward *httputil.ReverseProxy
}

// newProxy makes the proxy in front of the Nebraska at to. trust says that X-Forwarded-For can be believed.
func newProxy(to *url.URL, keys map[string]*ecdsa.PrivateKey, trust bool, logger *slog.Logger) *proxy {
	p := &proxy{path: strings.TrimRight(to.Path, "/"), keys: keys}
	if p.path == "" {
		p.path = defaultPath
	}
	p.forward = &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   32,
			DisableCompression:    true, // what is signed is what clients see once it is decompressed
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, ""
			r.Out.Header.Del("Accept-Encoding")
			if trust {
				r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			}
			r.SetXForwarded()
		},
		ModifyResponse: finish,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				logger.Error("no answer to pass on", "error", err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	return p
}

// question is what a client wants to be signed beside the answer.
type question struct {
	key     *ecdsa.PrivateKey
	cup2key string // KEYID:NONCE
	hash    [sha256.Size]byte
}

type questionKey struct{}

// ServeHTTP forwards a request for updates.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !p.isUpdate(r.URL.Path):
		http.Error(w, "cupproxy forwards requests for updates alone", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST it", http.StatusMethodNotAllowed)
		return
	case r.Header.Get("Content-Encoding") != "":
		http.Error(w, "send the request without compression", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, "more than 64 KiB", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		w.WriteHeader(http.StatusBadRequest) // the client has gone
		return
	}
	q, err := p.question(r.URL.Query(), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), questionKey{}, q))
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	p.forward.ServeHTTP(w, r)
}

// isUpdate allows the update path itself and one more element, Nebraska's secret.
func (p *proxy) isUpdate(requested string) bool {
	clean := strings.TrimSuffix(requested, "/")
	rest, below := strings.CutPrefix(clean, p.path)
	return below && path.Clean(clean) == clean && (rest == "" || rest[0] == '/' && strings.LastIndexByte(rest, '/') == 0)
}

// question reads what is to be signed; nil where the client does not ask.
func (p *proxy) question(query url.Values, body []byte) (*question, error) {
	asked := query["cup2key"]
	if len(asked) == 0 {
		return nil, nil
	}
	id, nonce, _ := strings.Cut(asked[0], ":")
	q := &question{key: p.keys[id], cup2key: asked[0], hash: sha256.Sum256(body)}
	switch {
	case len(asked) > 1 || nonce == "" || len(asked[0]) > 256:
		return nil, errors.New("want one cup2key=KEYID:NONCE")
	case q.key == nil:
		return nil, errors.New("there is no key with this id here")
	}
	if claimed := query.Get("cup2hreq"); claimed != "" && !strings.EqualFold(claimed, hex.EncodeToString(q.hash[:])) {
		return nil, errors.New("this is not the request that cup2hreq speaks of: something underway changed it")
	}
	return q, nil
}

// proof signs an answer: SIGNATURE:HASH OF THE REQUEST, both in hex. What ECDSA with SHA-256 is given is a hash already.
func (q *question) proof(answer []byte) (string, error) {
	hash := sha256.Sum256(answer)
	message := sha256.Sum256(slices.Concat(q.hash[:], hash[:], []byte(q.cup2key)))
	digest := sha256.Sum256(message[:])
	signature, err := ecdsa.SignASN1(rand.Reader, q.key, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return hex.EncodeToString(signature) + ":" + hex.EncodeToString(q.hash[:]), nil
}

// finish signs Nebraska's answer where the client asked for it.
func finish(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return err
	case len(body) > maxAnswer:
		return errors.New("the answer has more than 1 MiB")
	case resp.Header.Get("Content-Encoding") != "":
		return errors.New("the answer is compressed, though it was not asked for so")
	}
	resp.Header.Del("X-Cup-Server-Proof")
	resp.Header.Del("ETag")
	if q, _ := resp.Request.Context().Value(questionKey{}).(*question); q != nil && resp.StatusCode/100 == 2 && len(body) > 0 {
		proof, err := q.proof(body)
		if err != nil {
			return err
		}
		resp.Header.Set("X-Cup-Server-Proof", proof)
		resp.Header.Set("ETag", `W/"`+proof+`"`)
	}
	resp.Body, resp.ContentLength, resp.Trailer, resp.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil, nil
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
