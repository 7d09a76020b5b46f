package pki

import (
	"fmt"
	"time"

	"github.com/cloudflare/cfssl/config"
)

// Profile is what a certificate is for.
type Profile string

// The profiles and their extended key usages.
const (
	ProfilePeer   Profile = "peer"   // members to each other: server and client authentication
	ProfileServer Profile = "server" // the client port: server authentication
	ProfileClient Profile = "client" // users: client authentication
)

// profileCross signs another CA's key; only for the cross-certificate of the
// peer CA.
const profileCross Profile = "cross"

// Lifetimes where none is asked for.
const (
	MemberLifetime    = 30 * 24 * time.Hour
	ClientLifetime    = 90 * 24 * time.Hour
	CALifetime        = 10 * 365 * 24 * time.Hour
	AdmissionLifetime = 24 * time.Hour

	// Backdate is how far before its issue a certificate begins to be valid,
	// for hosts whose clocks are a little behind.
	Backdate = 5 * time.Minute
)

// CheckLifetime refuses a lifetime that no certificate can have: its dates are
// whole seconds (RFC 5280, section 4.1.2.5).
func CheckLifetime(d time.Duration) error {
	if d < time.Second {
		return fmt.Errorf("--lifetime %v: use a positive duration of at least one second, such as 720h", d)
	}
	return nil
}

// ParseProfile reads a profile's name as given to --profile.
func ParseProfile(s string) (Profile, error) {
	switch p := Profile(s); p {
	case ProfilePeer, ProfileServer, ProfileClient:
		return p, nil
	}
	return "", fmt.Errorf("--profile %q: use peer, server or client", s)
}

// lifetime is the profile's default.
func (p Profile) lifetime() time.Duration {
	switch p {
	case ProfileClient:
		return ClientLifetime
	case profileCross:
		return CALifetime
	}
	return MemberLifetime
}

// signing is cfssl's policy. Of a request it takes the key and nothing else;
// names, serial and both dates come with each signature. The expiry here is
// required by cfssl and never used.
func signing() *config.Signing {
	leaf := func(usages ...string) *config.SigningProfile {
		return &config.SigningProfile{
			Usage:                       append([]string{"digital signature"}, usages...),
			Expiry:                      time.Hour,
			CSRWhitelist:                keyOnly(),
			ClientProvidesSerialNumbers: true,
		}
	}
	cross := leaf()
	cross.Usage = []string{"cert sign", "crl sign"}
	cross.CAConstraint = config.CAConstraint{IsCA: true, MaxPathLenZero: true}
	return &config.Signing{
		// A profile that is not in the table gets the least.
		Default: leaf("client auth"),
		Profiles: map[string]*config.SigningProfile{
			string(ProfilePeer):   leaf("server auth", "client auth"),
			string(ProfileServer): leaf("server auth"),
			string(ProfileClient): leaf("client auth"),
			string(profileCross):  cross,
		},
	}
}

func keyOnly() *config.CSRWhitelist {
	return &config.CSRWhitelist{PublicKey: true, PublicKeyAlgorithm: true}
}
