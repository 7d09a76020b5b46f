package api

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
)

// guard stands before everything HTTP clients reach, and keeps web pages from
// using a visitor's browser, its place in the network and its client
// certificate against the cluster. Programs are no danger of that kind: what
// they send they may send, so that curl -d works, which says that it sends a
// form. docs/security.md has the attacks, one by one.
//
// From a browser, a request that is not only a look must come from a page of
// the same origin or of one named by --cors, must be JSON, and over plaintext
// must be addressed to a name that is this member's.
type guard struct {
	origins *http.CrossOriginProtection
	cors    []string      // --cors, without "*"
	hosts   []string      // --host-whitelist; empty: any
	names   []string      // hosts of this member's URLs
	body    time.Duration // for the body of what is not let through, or found
	log     zerolog.Logger
	audit   *auditor
	next    http.Handler
}

// anyWord is how etcd's flags spell their default.
const anyWord = "*"

// CheckOrigins tells which of the origins of --cors is none.
func CheckOrigins(origins []string) error {
	_, err := trust(origins)
	return err
}

// trust makes the check of origins. "*" names none: it is etcd's default, and
// a cluster that any page may use is not wanted by who leaves it at that.
func trust(origins []string) (*http.CrossOriginProtection, error) {
	p := http.NewCrossOriginProtection()
	for _, o := range origins {
		if o == anyWord {
			continue
		}
		if err := p.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("%w; write scheme://host[:port]", err)
		}
	}
	return p, nil
}

func newGuard(o Options, next http.Handler) (*guard, error) {
	origins, err := trust(o.Origins)
	if err != nil {
		return nil, err
	}
	g := &guard{origins: origins, cors: o.Origins, hosts: o.Hosts, names: o.Names, body: o.BodyTimeout, log: o.Log, next: next}
	if slices.Contains(o.Hosts, anyWord) {
		g.hosts = nil
	}
	return g, nil
}

// ServeHTTP passes on what may pass.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	if r.Body != http.NoBody { // net/http reads what a handler leaves, and waits for it
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.body))
	}
	if rest, old := strings.CutPrefix(r.URL.Path, "/v3beta/"); old {
		r.URL.Path = "/v3/" + rest
	}
	if status, reason := g.refuse(r); reason != "" {
		g.log.Warn().Str("remote-addr", r.RemoteAddr).Str("origin", r.Header.Get("Origin")).Str("host", r.Host).
			Str("path", r.URL.Path).Str("reason", reason).Msg("refused an HTTP request that a web page may have made")
		g.audit.refusedHTTP(r, start, status, reason)
		w.Header().Set("Connection", "close") // its body is not read
		writeJSON(w, status, refusal{Code: int(codes.PermissionDenied), Message: reason})
		return
	}
	g.allow(w.Header(), r.Header.Get("Origin"))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	g.next.ServeHTTP(w, r)
}

// refusal has the form of the gateway's errors.
type refusal struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// refuse returns why r may not pass, and the HTTP status that says so.
func (g *guard) refuse(r *http.Request) (status int, reason string) {
	host := hostOf(r)
	if r.TLS == nil && len(g.hosts) > 0 && !slices.Contains(g.hosts, host) {
		return http.StatusMisdirectedRequest, fmt.Sprintf("host %q is not in --host-whitelist; add it there, or use https", host)
	}
	if !acts(r) || !fromBrowser(r) {
		return 0, ""
	}
	asked := r
	if r.Method != http.MethodPost { // what the check would let pass as a look
		asked = r.Clone(r.Context())
		asked.Method = http.MethodPost
	}
	origin, told := r.Header["Origin"]
	if err := g.origins.Check(asked); err != nil || told && origin[0] == "" {
		return http.StatusForbidden, fmt.Sprintf("request of a page of another origin, %q; name it in --cors to allow it", r.Header.Get("Origin"))
	}
	if r.TLS == nil && !g.known(host) {
		return http.StatusMisdirectedRequest, fmt.Sprintf("host %q is not known to be this member's; name it in --host-whitelist or --advertise-client-urls, or use https", host)
	}
	if r.Method == http.MethodPost && !isJSON(r) {
		return http.StatusUnsupportedMediaType, "from a browser only JSON is taken; send Content-Type: application/json"
	}
	return 0, ""
}

// acts tells whether r can do more than look: every call of the gateway is a
// POST, a WebSocket begins with a GET, and a preflight asks to act.
func acts(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return r.Header.Get("Upgrade") != ""
	case http.MethodOptions:
		return r.Header.Get("Access-Control-Request-Method") != ""
	}
	return true
}

// fromBrowser tells whether r may come from a web browser. Those of today say
// where a request comes from, in headers that pages cannot set; an older one
// at least says what it is.
func fromBrowser(r *http.Request) bool {
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// isJSON tells whether r says that its body is JSON. Pages can send that to
// another origin only if it agrees first.
func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// known tells whether a name is this member's, whatever DNS says. Addresses are:
// no page is of an origin that this member does not serve.
func (g *guard) known(host string) bool {
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.Contains(g.names, host) || slices.Contains(g.hosts, host)
}

// hostOf is the host a request is addressed to, without port and brackets.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	return strings.ToLower(host)
}

// allow tells a browser that pages of an origin of --cors may read the answer.
func (g *guard) allow(h http.Header, origin string) {
	if len(g.cors) == 0 {
		return
	}
	h.Add("Vary", "Origin")
	if origin == "" || origin == anyWord || !slices.Contains(g.cors, origin) {
		return
	}
	h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Headers", "accept, content-type, authorization")
}
