package fetcher

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// defaultMirrors is where containerd is usually told to look (config_path).
const defaultMirrors = "/etc/containerd/certs.d"

const maxHostsFile = 1 << 20

// registryHost is a server that may have a registry's images: the registry itself or a mirror.
type registryHost struct {
	url     *url.URL // with its path, which ends in /v2 unless the file says otherwise
	pull    bool     // may give content by digest
	resolve bool     // may say what a tag stands for
	header  http.Header
	tls     *tls.Config   // nil: the client's
	dial    time.Duration // 0: the client's
}

// hostsFile is what containerd's hosts.toml holds (containerd's docs/hosts.md), as far as a pull needs it.
type hostsFile struct {
	Server string `toml:"server"`
	hostTable
	Host map[string]hostTable `toml:"host"`
}

type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`     // a file or a list of files
	Client       any            `toml:"client"` // a file, a list of files, or a list of pairs: certificate and key
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"` // strings or lists of strings
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// mirrorsOf returns the hosts to ask for images of a registry, best first, as the first hosts.toml for it in dirs says; nil
// where there is none.
func mirrorsOf(dirs, registry string, origin *url.URL) ([]registryHost, error) {
	for _, dir := range filepath.SplitList(dirs) {
		for _, name := range hostDirs(registry) {
			file := filepath.Join(dir, name, "hosts.toml")
			info, err := os.Stat(file)
			if err != nil {
				continue // not there, or not for this user
			}
			hosts, err := readHosts(file, info.Size(), origin)
			if err != nil {
				return nil, fmt.Errorf("mirrors of %s: %s: %w: correct that file", registry, file, err)
			}
			return hosts, nil
		}
	}
	return nil, nil
}

// hostDirs are the folders that containerd looks into for a registry.
func hostDirs(registry string) []string {
	dirs := []string{registry}
	if i := strings.LastIndexByte(registry, ':'); i > strings.LastIndexByte(registry, ']') {
		dirs = []string{registry[:i] + "_" + registry[i+1:] + "_", registry}
	}
	return append(dirs, "_default")
}

func readHosts(file string, size int64, origin *url.URL) ([]registryHost, error) {
	if size > maxHostsFile {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseHosts(string(content), filepath.Dir(file), origin)
}

// parseHosts reads a hosts.toml: its hosts in their order, then its server, which is origin where it names none. Relative paths in it
// are relative to dir.
func parseHosts(content, dir string, origin *url.URL) ([]registryHost, error) {
	var file hostsFile
	meta, err := toml.Decode(content, &file)
	if err != nil {
		return nil, err
	}
	var hosts []registryHost
	for _, name := range inOrder(meta) {
		table := file.Host[name]
		h, err := table.host(name, dir)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", name, err)
		}
		hosts = append(hosts, h)
	}
	server := file.Server
	if server == "" {
		server = origin.String()
	}
	h, err := file.host(server, dir)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	return append(hosts, h), nil
}

// inOrder lists the hosts as they stand in the file: that is the order in which they are to be asked.
func inOrder(meta toml.MetaData) []string {
	var names []string
	for _, key := range meta.Keys() {
		if len(key) >= 2 && key[0] == "host" && !slices.Contains(names, key[1]) {
			names = append(names, key[1])
		}
	}
	return names
}

func (t hostTable) host(server, dir string) (h registryHost, err error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	if h.url, err = url.Parse(server); err != nil {
		return h, errors.New("it is no URL")
	}
	if _, err := checkHost(h.url.Host); err != nil || h.url.Scheme != "https" && h.url.Scheme != "http" || h.url.User != nil {
		return h, errors.New("it is not http(s)://HOST[:PORT][/PATH]")
	}
	h.url = &url.URL{Scheme: h.url.Scheme, Host: h.url.Host, Path: path.Clean("/" + h.url.Path)}
	if !t.OverridePath && !strings.HasSuffix(h.url.Path, "/v2") {
		h.url.Path = path.Join(h.url.Path, "v2")
	}
	h.url.Path = strings.TrimSuffix(h.url.Path, "/")
	h.pull = len(t.Capabilities) == 0 || slices.Contains(t.Capabilities, "pull")
	h.resolve = len(t.Capabilities) == 0 || slices.Contains(t.Capabilities, "resolve")
	if t.DialTimeout != "" {
		if h.dial, err = time.ParseDuration(t.DialTimeout); err != nil || h.dial <= 0 {
			return h, fmt.Errorf("dial_timeout %.80q is no duration such as 2s", t.DialTimeout)
		}
	}
	if h.header, err = headers(t.Header); err != nil {
		return h, err
	}
	h.tls, err = t.tlsConfig(dir)
	return h, err
}

func headers(table map[string]any) (http.Header, error) {
	h := http.Header{}
	for name, value := range table {
		list, err := texts(value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		for _, v := range list {
			h.Add(name, v)
		}
	}
	return h, nil
}

// texts takes a string or a list of strings.
func texts(value any) ([]string, error) {
	switch value := value.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{value}, nil
	case []any:
		list := make([]string, len(value))
		for i, v := range value {
			s, ok := v.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no text", v)
			}
			list[i] = s
		}
		return list, nil
	}
	return nil, fmt.Errorf("%v is neither a text nor a list of texts", value)
}

func (t hostTable) tlsConfig(dir string) (*tls.Config, error) {
	if t.CA == nil && t.Client == nil && t.SkipVerify == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.SkipVerify != nil {
		c.InsecureSkipVerify = *t.SkipVerify // the node's administrator wrote so; content is verified by its digest
	}
	cas, err := texts(t.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	for _, file := range cas {
		if c.RootCAs == nil {
			if c.RootCAs, err = x509.SystemCertPool(); err != nil {
				c.RootCAs = x509.NewCertPool()
			}
		}
		pem, err := os.ReadFile(inDir(dir, file))
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no certificate", file)
		}
	}
	pairs, err := certificates(t.Client)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for _, pair := range pairs {
		cert, err := tls.LoadX509KeyPair(inDir(dir, pair[0]), inDir(dir, pair[1]))
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		c.Certificates = append(c.Certificates, cert)
	}
	return c, nil
}

// certificates takes a file that holds both certificate and key, a list of such files, or a list of pairs of files.
func certificates(value any) ([][2]string, error) {
	list, ok := value.([]any)
	if !ok && value != nil {
		list = []any{value}
	}
	var pairs [][2]string
	for _, v := range list {
		files, err := texts(v)
		switch {
		case err != nil:
			return nil, err
		case len(files) == 1:
			pairs = append(pairs, [2]string{files[0], files[0]})
		case len(files) == 2 && files[1] == "":
			pairs = append(pairs, [2]string{files[0], files[0]})
		case len(files) == 2:
			pairs = append(pairs, [2]string{files[0], files[1]})
		default:
			return nil, fmt.Errorf("%v is not a certificate and its key", v)
		}
	}
	return pairs, nil
}

func inDir(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}
