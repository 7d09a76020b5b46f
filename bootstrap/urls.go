package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxName is the longest member name in bytes. etcd states no limit; names
// travel in every member list and become file and log fields.
const maxName = 255

// CheckName tells why a text cannot be a member's name, or returns nil. Commas
// and equal signs would break the name's own --initial-cluster entry. The
// error is a clause; the caller puts the flag's name in front.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("member name is empty")
	case len(name) > maxName:
		return fmt.Errorf("member name of %d bytes is longer than %d", len(name), maxName)
	case strings.ContainsAny(name, ",=/\\"):
		return fmt.Errorf("member name %q contains one of , = / \\", name)
	case strings.ContainsFunc(name, notPrintable):
		return fmt.Errorf("member name %q contains a space or an unprintable character", name)
	}
	return nil
}

func notPrintable(r rune) bool {
	return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
}

// ParseURLs reads a list of peer or client URLs as etcd does and returns them
// in canonical form, sorted, each once: scheme http or https with host and port and
// nothing behind, or unix or unixs with a path. flag, such as
// "--initial-advertise-peer-urls", begins the text of an error, which counts
// as ErrRefused.
func ParseURLs(flag string, texts []string) ([]string, error) {
	if len(texts) == 0 {
		return nil, Refusef("%s is empty; give at least one URL, like https://host:2380", flag)
	}
	urls := make([]string, 0, len(texts))
	for _, text := range texts {
		u, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, Refusef("%s: %w", flag, err)
		}
		urls = append(urls, u.String())
	}
	slices.Sort(urls)
	return slices.Compact(urls), nil
}

func parseURL(text string) (*url.URL, error) {
	if strings.Contains(text, "@") {
		// Not echoed: what stands before the @ may be a password.
		return nil, errors.New("a URL contains @; give scheme, host and port only, like https://host:2380")
	}
	u, err := url.Parse(text)
	if err != nil {
		// url.Error would say the URL twice.
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("URL %q is malformed (%w); give it like https://host:2380", text, err)
	}
	switch u.Scheme {
	case "unix", "unixs":
		if u.Host == "" && u.Path == "" {
			return nil, fmt.Errorf("URL %q names no socket; give it like unix://path", text)
		}
		return u, nil
	case "http", "https":
		return u, checkHTTP(u, text)
	}
	return nil, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %q; give it like https://host:2380", text)
}

func checkHTTP(u *url.URL, text string) error {
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return fmt.Errorf(`URL address does not have the form "host:port": %q; give the port too, like https://host:2380`, text)
	}
	if host == "" {
		return fmt.Errorf("unexpected empty host (%q); give the host name or address that others reach", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port of URL %q is not between 1 and 65535", text)
	}
	if strings.ContainsFunc(host, notPrintable) || strings.ContainsAny(host, ",=") {
		return fmt.Errorf("host of URL %q contains a character no host name has", text)
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("URL must not contain a path: %q; end it after the port", text)
	}
	return nil
}
