package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// uriScheme is the scheme of the URI that names the holder of a certificate.
const uriScheme = "conclave"

// maxCN is the longest common name X.509 allows (RFC 5280, ub-common-name).
const maxCN = 64

// ErrUnnamed means that a certificate names no member, as those of one's own.
var ErrUnnamed = errors.New("certificate names no member")

// Name is the holder of a certificate: a member or a user of a trust domain.
type Name struct {
	TrustDomain string
	Member      uint64 // 0 for a user
	User        string // "" for a member
}

var trustDomainShape = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// URI is the name as it stands in a certificate:
// conclave://<trust-domain>/member/<id as %016x> or .../user/<name>.
func (n Name) URI() *url.URL {
	u := &url.URL{Scheme: uriScheme, Host: n.TrustDomain, Path: "/user/" + n.User}
	if n.Member != 0 {
		u.Path = fmt.Sprintf("/member/%016x", n.Member)
	} else {
		// Escaped whole: a name with a slash or semicolon stays one segment.
		u.RawPath = "/user/" + url.PathEscape(n.User)
	}
	return u
}

// String says the name in words for messages.
func (n Name) String() string {
	if n.Member != 0 {
		return fmt.Sprintf("member %x", n.Member)
	}
	return fmt.Sprintf("user %q", n.User)
}

// NameOf reads the holder's name from a certificate. It does not verify the
// certificate. The error wraps ErrUnnamed when there is no conclave URI.
func NameOf(cert *x509.Certificate) (Name, error) {
	var found []*url.URL
	for _, u := range cert.URIs {
		if u.Scheme == uriScheme {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		return Name{}, fmt.Errorf("certificate of %q: %w", cert.Subject.CommonName, ErrUnnamed)
	case 1:
		return parseName(found[0])
	default:
		return Name{}, fmt.Errorf("certificate of %q has %d conclave names", cert.Subject.CommonName, len(found))
	}
}

func parseName(u *url.URL) (Name, error) {
	bad := fmt.Errorf("malformed conclave name %q in a certificate", u)
	if !trustDomainShape.MatchString(u.Host) || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Name{}, bad
	}
	n := Name{TrustDomain: u.Host}
	if hex, ok := strings.CutPrefix(u.Path, "/member/"); ok {
		id, err := strconv.ParseUint(hex, 16, 64)
		if err != nil || id == 0 {
			return Name{}, bad
		}
		n.Member = id
	} else if user, ok := strings.CutPrefix(u.Path, "/user/"); ok && checkUser(user) == nil {
		n.User = user
	}
	// One spelling only, so that two names never look alike.
	if (n.Member == 0 && n.User == "") || n.URI().String() != u.String() {
		return Name{}, bad
	}
	return n, nil
}

// checkUser refuses names that cannot be a common name.
func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("--cn: a client certificate needs the user's name")
	case !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsPrint(r) }):
		// Not only control characters: what nobody sees makes two users look
		// like one.
		return fmt.Errorf("--cn %q: control and invisible characters and invalid UTF-8 are not possible in a name", user)
	case strings.TrimSpace(user) != user:
		return fmt.Errorf("--cn %q: leave out the space around the name", user)
	case utf8.RuneCountInString(user) > maxCN:
		return fmt.Errorf("--cn %q: %d characters, a certificate holds at most %d", user, utf8.RuneCountInString(user), maxCN)
	}
	return nil
}
