package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Attacks are what a web page can have its visitor's browser send to a member:
// forms and fetches without asking (plain content types, no headers of the
// page's choice), anything after a preflight that was answered, WebSockets, and
// all of it to its own name that DNS now resolves to the member. None may
// change or read a key, with or without the visitor's certificate.
func TestGuard_attacks(t *testing.T) {
	const firefox, put = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101 Firefox/60.0", `{"key":"Zm9v"}`
	attacks := []struct {
		name   string
		method string // POST
		header []string
		body   string
		plain  bool // possible over plaintext only
	}{
		{name: "form", header: []string{"Content-Type: application/x-www-form-urlencoded", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", firefox}},
		{name: "plain text form", header: []string{"Content-Type: text/plain", "Origin: https://evil.example", firefox}, body: put[:len(put)-1] + `,"x":"=` + `"}`},
		{name: "multipart form", header: []string{"Content-Type: multipart/form-data; boundary=x", "Origin: https://evil.example", firefox}},
		{name: "fetch without CORS", header: []string{"Content-Type: text/plain;charset=UTF-8", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty", firefox}},
		{name: "beacon", header: []string{"Content-Type: text/plain;charset=UTF-8", "Origin: https://evil.example"}},
		{name: "fetch of JSON, had the preflight passed", header: []string{"Content-Type: application/json", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site", firefox}},
		{name: "neighbour in the same domain", header: []string{"Content-Type: application/json", "Origin: https://evil.localhost", "Sec-Fetch-Site: same-site", firefox}},
		{name: "another port of this host", header: []string{"Content-Type: application/json", "Origin: http://localhost:8080", firefox}},
		{name: "sandboxed frame", header: []string{"Content-Type: text/plain", "Origin: null", firefox}},
		{name: "empty origin", header: []string{"Content-Type: application/json", "Origin: "}},
		{name: "browser that tells no origin", header: []string{"Content-Type: text/plain", firefox}},
		{name: "browser that tells no origin and no type", header: []string{"Content-Type: ", firefox}},
		{name: "body that names no type", header: []string{"Content-Type: ", "Sec-Fetch-Site: none", firefox}},
		{name: "rebound name", plain: true, header: []string{"Content-Type: application/json", "Host: evil.example:2379", "Origin: http://evil.example:2379", firefox}},
		{name: "rebound name that says same-origin", plain: true, header: []string{"Content-Type: application/json", "Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin", firefox}},
		{name: "rebound name, no origin told", plain: true, header: []string{"Content-Type: application/json", "Host: evil.example", firefox}},
		{name: "WebSocket", method: http.MethodGet, header: []string{"Origin: https://evil.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}},
		{name: "WebSocket of a rebound name", plain: true, method: http.MethodGet, header: []string{"Host: evil.example", "Origin: http://evil.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}},
		{name: "PUT", method: http.MethodPut, header: []string{"Content-Type: application/json", "Origin: https://evil.example"}},
		{name: "gRPC over fetch", header: []string{"Content-Type: application/grpc", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}},
		{name: "gRPC-Web", header: []string{"Content-Type: application/grpc-web+proto", "Origin: https://evil.example"}},
	}
	for _, scheme := range []string{"http", "https"} {
		f := start(t, scheme, nil)
		for _, h2 := range []bool{false, scheme == "https"} {
			c := f.httpClient(t, h2)
			for _, a := range attacks {
				if a.plain && scheme == "https" || a.method == http.MethodGet && h2 {
					continue // no certificate for that name; no Upgrade in HTTP/2
				}
				t.Run(fmt.Sprintf("%s, HTTP/2 %v, %s", scheme, h2, a.name), func(t *testing.T) {
					before := f.backend.revision()
					body := a.body
					if body == "" {
						body = put
					}
					resp := f.send(t, c, a.method, "/v3/kv/put", body, a.header...)
					if code := resp.StatusCode; code != http.StatusForbidden && code != http.StatusMisdirectedRequest && code != http.StatusUnsupportedMediaType {
						t.Errorf("answered %d: %s", code, resp.text)
					}
					if f.backend.revision() != before {
						t.Error("the page has written")
					}
					if o := resp.Header.Get("Access-Control-Allow-Origin"); o != "" {
						t.Errorf("the page may read the answer: %q", o)
					}
				})
			}
			t.Run(fmt.Sprintf("%s, HTTP/2 %v, preflight", scheme, h2), func(t *testing.T) {
				resp := f.send(t, c, http.MethodOptions, "/v3/kv/put", "", "Origin: https://evil.example",
					"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
				if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%d %v", resp.StatusCode, resp.Header)
				}
			})
		}
	}
}

type answer struct {
	*http.Response
	text string
}

// send is post with a method of the test's choice.
func (f *fixture) send(t *testing.T, c *http.Client, method, path, body string, header ...string) answer {
	t.Helper()
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.urls[len(f.urls)-1].String()+path, strings.NewReader(body))
	must(t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "Host":
			req.Host = value
		case value == "" && name != "Origin":
			req.Header.Del(name)
		default:
			req.Header.Set(name, value)
		}
	}
	resp, err := c.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return answer{resp, string(text)}
}

// Programs send what they like, and pages of the member's own origin JSON.
func TestGuard_letsPass(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		f := start(t, scheme, func(o *Options) { o.Names = []string{"kv.example.com"} })
		c := f.httpClient(t, false)
		own := "Origin: " + scheme + "://" + f.addr()
		for name, header := range map[string][]string{
			"curl -d":                 {"Content-Type: application/x-www-form-urlencoded", "User-Agent: curl/8.5.0", "Accept: */*"},
			"python urllib3":          {"Content-Type: ", "User-Agent: python-urllib3/2.0"},
			"lua-resty-http":          {"Content-Type: ", "User-Agent: lua-resty-http/0.17.1 (Lua) ngx_lua/10025", "Host: etcd.apisix.svc.cluster.local:2379"},
			"Go":                      {"Content-Type: application/json", "User-Agent: Go-http-client/1.1"},
			"text":                    {"Content-Type: text/plain"},
			"own page":                {"Content-Type: application/json; charset=utf-8", own, "Sec-Fetch-Site: same-origin", "User-Agent: Mozilla/5.0"},
			"own page of old":         {"Content-Type: application/json", own, "User-Agent: Mozilla/5.0"},
			"own page by name":        {"Content-Type: application/json", "Host: KV.example.com:2379", "Origin: " + scheme + "://KV.example.com:2379", "User-Agent: Mozilla/5.0"},
			"typed in by its visitor": {"Content-Type: application/json", "Sec-Fetch-Site: none", "User-Agent: Mozilla/5.0"},
		} {
			if resp := f.send(t, c, "", "/v3/kv/put", `{"key":"Zm9v"}`, header...); resp.StatusCode != http.StatusOK {
				t.Errorf("%s over %s: %d %s", name, scheme, resp.StatusCode, resp.text)
			}
		}
		for _, path := range []string{"/health", "/metrics", "/version"} {
			if resp := f.send(t, c, http.MethodGet, path, "", "Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site"); resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("GET %s: %d %v", path, resp.StatusCode, resp.Header)
			}
		}
	}
}

func TestGuard_namedOrigins(t *testing.T) {
	const named = "https://console.example.com"
	f := start(t, "https", func(o *Options) { o.Origins = []string{named} })
	c := f.httpClient(t, false)
	pre := f.send(t, c, http.MethodOptions, "/v3/kv/put", "", "Origin: "+named, "Access-Control-Request-Method: POST", "Sec-Fetch-Site: same-site")
	if h := pre.Header; pre.StatusCode != http.StatusOK || h.Get("Access-Control-Allow-Origin") != named || h.Get("Vary") != "Origin" ||
		h.Get("Access-Control-Allow-Headers") != "accept, content-type, authorization" || h.Get("Access-Control-Allow-Methods") != "POST, GET, OPTIONS, PUT, DELETE" {
		t.Errorf("preflight: %d %v", pre.StatusCode, h)
	}
	ok := f.send(t, c, "", "/v3/kv/put", `{"key":"Zm9v"}`, "Origin: "+named, "Content-Type: application/json", "Sec-Fetch-Site: same-site")
	if ok.StatusCode != http.StatusOK || ok.Header.Get("Access-Control-Allow-Origin") != named {
		t.Errorf("%d %v %s", ok.StatusCode, ok.Header, ok.text)
	}
	for _, header := range [][]string{
		{"Origin: https://evil.example", "Content-Type: application/json"},
		{"Origin: http://console.example.com", "Content-Type: application/json"},
		{"Origin: " + named, "Content-Type: text/plain"}, // a form of theirs
	} {
		if resp := f.send(t, c, "", "/v3/kv/put", `{"key":"Zm9v"}`, header...); resp.StatusCode < 400 {
			t.Errorf("%v: %d", header, resp.StatusCode)
		}
	}
}

func TestGuard_hostWhitelist(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		f := start(t, scheme, func(o *Options) { o.Hosts = []string{"kv.example.com"} })
		c := f.httpClient(t, false)
		for host, ok := range map[string]bool{"kv.example.com:2379": true, "kv.example.com": true, "other.example.com": scheme == "https", f.addr(): scheme == "https"} {
			for _, path := range []string{"/v3/kv/range", "/health"} {
				method := map[string]string{"/health": http.MethodGet}[path]
				resp := f.send(t, c, method, path, `{"key":"Zm9v"}`, "Host: "+host)
				if (resp.StatusCode == http.StatusOK) != ok || !ok && resp.StatusCode != http.StatusMisdirectedRequest {
					t.Errorf("%s to %s over %s: %d %s", path, host, scheme, resp.StatusCode, resp.text)
				}
			}
		}
	}
}

func TestCheckOrigins_refuses(t *testing.T) {
	for origin, ok := range map[string]bool{"*": true, "https://a.example": true, "http://a.example:8080": true, "a.example": false, "https://a.example/": false, "": false} {
		if err := CheckOrigins([]string{origin}); (err == nil) != ok {
			t.Errorf("%q: %v", origin, err)
		}
	}
}
