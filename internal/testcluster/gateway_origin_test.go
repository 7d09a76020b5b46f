package testcluster_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// browser sends a request as a browser does that was told to show root's certificate
// to this member, and returns the status of the answer.
func browser(t *testing.T, settings *tls.Config, method, url, body string, headers map[string]string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{TLSClientConfig: settings.Clone()}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols { // then the body is the open connection
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	return resp.StatusCode
}

// with adds headers to what a browser of today sends of itself.
func with(agent string, headers ...string) map[string]string {
	all := map[string]string{"User-Agent": agent, "Accept-Language": "en-US,en;q=0.5", "Accept-Encoding": "gzip, deflate, br"}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		all[name] = value
	}
	return all
}

// A page of another origin, in a browser that has root's certificate and shows it
// without asking, can do what pages can: send plain text, send a form, open a
// WebSocket, and ask beforehand. None of it is let in and nothing is written, whatever
// of its origin the browser tells. The member's own pages and programs are let in.
func TestGateway_otherOriginWithCertificate(t *testing.T) {
	const (
		chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
		firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
		evil    = "Origin: https://evil.example"
		plain   = "Content-Type: text/plain;charset=UTF-8"
		form    = "Content-Type: application/x-www-form-urlencoded"
		put     = "/v3/kv/put"
	)
	crossFetch := []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"}
	crossForm := []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-User: ?1", "Upgrade-Insecure-Requests: 1"}
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	setUpUsers(t, secureClient(t, c, "admin"))
	url, cert := c.Members[0].ClientURL, c.ClientTLS("root")
	keys := func() int64 {
		t.Helper()
		r, err := secureClient(t, c, "root").Get(within(t), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	for name, r := range map[string]struct {
		method, path, body string
		headers            map[string]string
	}{
		"plain text, Chrome":        {http.MethodPost, put, putA, with(chrome, append(crossFetch, evil, plain)...)},
		"plain text, Firefox":       {http.MethodPost, put, putA, with(firefox, append(crossFetch, evil, plain)...)},
		"plain text, older browser": {http.MethodPost, put, putA, with(firefox, evil, plain)},
		"plain text, no origin":     {http.MethodPost, put, putA, with(firefox, plain)},
		"text without a type":       {http.MethodPost, put, putA, with(chrome, crossFetch...)},
		"form":                      {http.MethodPost, put, "key=YS8x&value=dg%3D%3D", with(chrome, append(crossForm, evil, form)...)},
		"form of plain text":        {http.MethodPost, put, putA[:len(putA)-1] + `,"x":"="}`, with(firefox, append(crossForm, evil, "Content-Type: text/plain")...)},
		"form of a sandboxed frame": {http.MethodPost, put, putA, with(chrome, append(crossForm, "Origin: null", form)...)},
		"same site, other origin":   {http.MethodPost, put, putA, with(chrome, "Sec-Fetch-Site: same-site", "Origin: https://127.0.0.1:1", plain)},
		"JSON without asking":       {http.MethodPost, put, putA, with(chrome, append(crossFetch, evil, "Content-Type: application/json")...)},
		"question before JSON":      {http.MethodOptions, put, "", with(chrome, append(crossFetch, evil, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")...)},
		"WebSocket, Chrome":         {http.MethodGet, put, "", with(chrome, append(upgrade, evil)...)},
		"WebSocket, Firefox":        {http.MethodGet, put, "", with(firefox, append(upgrade, evil, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: websocket", "Sec-Fetch-Dest: empty")...)},
		"WebSocket for a watch":     {http.MethodGet, "/v3/watch", "", with(chrome, append(upgrade, evil)...)},
		"WebSocket of a frame":      {http.MethodGet, put, "", with(chrome, append(upgrade, "Origin: null")...)},
		"login":                     {http.MethodPost, "/v3/auth/authenticate", `{"name":"root","password":"root"}`, with(chrome, append(crossFetch, evil, plain)...)},
		"turning it off":            {http.MethodPost, "/v3/auth/disable", "{}", with(chrome, append(crossFetch, evil, plain)...)},
	} {
		if code := browser(t, cert, r.method, url+r.path, r.body, r.headers); code != http.StatusForbidden && code != http.StatusUnsupportedMediaType {
			t.Errorf("%s: %d", name, code)
		}
	}
	if n := keys(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
	own := []string{"Origin: " + url, "Sec-Fetch-Site: same-origin", "Content-Type: application/json"}
	for name, r := range map[string]struct {
		method, body string
		headers      map[string]string
		want         int
	}{
		"own page":             {http.MethodPost, putA, with(chrome, own...), http.StatusOK},
		"own page's WebSocket": {http.MethodGet, "", with(chrome, append(upgrade, "Origin: "+url)...), http.StatusSwitchingProtocols},
		"curl -d":              {http.MethodPost, getB, map[string]string{"User-Agent": "curl/8.14.1", "Accept": "*/*", "Content-Type": "application/x-www-form-urlencoded"}, http.StatusOK},
		"a program":            {http.MethodPost, putA, nil, http.StatusOK},
	} {
		if code := browser(t, cert, r.method, url+put, r.body, r.headers); code != r.want {
			t.Errorf("%s: %d", name, code)
		}
	}
	if n := keys(); n != 2 {
		t.Errorf("%d keys were written", n)
	}
}
