package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/pki"
)

const (
	// askEvery is the pause between rounds of asking the members of a running
	// cluster, askTimeout bounds one question.
	askEvery   = 500 * time.Millisecond
	askTimeout = 10 * time.Second
	// joinPatience is how long the cluster may have other members than were
	// given: whoever was asked may not have heard of the addition yet.
	joinPatience = 3 * time.Second
	// maxMembersAnswer bounds an answer, in bytes.
	maxMembersAnswer = 1 << 20
)

// join asks the members of a running cluster who they are, and makes the plan
// of a member that was added to it. Started are those that have run before and
// so can vouch for who this member is.
func (d *Daemon) join(ctx context.Context, plan bootstrap.Plan) (joined bootstrap.Plan, started []uint64, err error) {
	client, err := d.askingClient(plan)
	if err != nil {
		return plan, nil, err
	}
	defer client.CloseIdleConnections()
	begun := time.Now()
	var mismatch time.Time // since when; zero for not yet
	for logged := ""; ; {
		joined, started, err = d.joinOnce(ctx, client, plan)
		switch {
		case err == nil, errors.Is(err, bootstrap.ErrRefused):
			return joined, started, err
		case !errors.Is(err, bootstrap.ErrMismatch):
		case mismatch.IsZero():
			mismatch = time.Now()
		case time.Since(mismatch) > joinPatience:
			return plan, nil, fmt.Errorf("error validating peerURLs: %w", err)
		}
		if time.Since(begun) > d.cfg.DiscoveryTimeout {
			return plan, nil, fmt.Errorf("cannot fetch cluster info from peer urls within --discovery-timeout %s: could not retrieve cluster information from the given URLs: %w", d.cfg.DiscoveryTimeout, err)
		}
		if err.Error() != logged {
			logged = err.Error()
			d.log.Warn().Err(err).Msg("waiting for a member of the running cluster")
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return plan, nil, ctx.Err()
		}
	}
}

// joinOnce asks the other members one after the other until one gives a list
// that has this member. The error tells of a list that does not before one of a
// member that cannot be reached.
func (d *Daemon) joinOnce(ctx context.Context, client *http.Client, plan bootstrap.Plan) (bootstrap.Plan, []uint64, error) {
	var unreachable, mismatch error
	for _, u := range othersOf(plan) {
		running, err := askMembers(ctx, client, u)
		if err != nil {
			unreachable = cmp.Or(unreachable, fmt.Errorf("ask %s for the members: %w", u, err))
			continue
		}
		joined, err := plan.Join(ctx, d.resolver.LookupHost, running)
		if err == nil {
			var started []uint64
			for _, m := range running.Members {
				if m.Name != "" {
					started = append(started, m.ID)
				}
			}
			if len(started) > 0 {
				return joined, started, nil
			}
			err = errors.New("no member of the cluster has introduced itself yet")
			unreachable = cmp.Or(unreachable, fmt.Errorf("ask %s for the members: %w", u, err))
			continue
		}
		if errors.Is(err, bootstrap.ErrRefused) {
			return plan, nil, err
		}
		mismatch = cmp.Or(mismatch, err)
	}
	if mismatch == nil && unreachable == nil {
		return plan, nil, bootstrap.Refusef("--initial-cluster-state %q: the peers given are this member alone (%s); list the members of the cluster too", ClusterStateExisting, plan)
	}
	return plan, nil, cmp.Or(mismatch, unreachable)
}

// othersOf are the peer URLs of the other members, sorted.
func othersOf(plan bootstrap.Plan) []string {
	var urls []string
	for _, m := range plan.Members {
		if m.ID != plan.Self {
			urls = append(urls, m.PeerURLs...)
		}
	}
	slices.Sort(urls)
	return urls
}

// listedMember is a member as the peer port lists it; the form is etcd's.
type listedMember struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// clusterIDHeader says which cluster an answer on the peer port is about.
const clusterIDHeader = "X-Etcd-Cluster-ID"

func askMembers(ctx context.Context, client *http.Client, peerURL string) (bootstrap.Running, error) {
	var none bootstrap.Running
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+"/members", nil)
	if err != nil {
		return none, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return none, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below, or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMembersAnswer))
	if err != nil {
		return none, err
	}
	if resp.StatusCode != http.StatusOK {
		return none, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	var list []listedMember
	if err := json.Unmarshal(body, &list); err != nil {
		return none, fmt.Errorf("the answer is no list of members: %w", err)
	}
	running := bootstrap.Running{}
	if running.ClusterID, err = strconv.ParseUint(resp.Header.Get(clusterIDHeader), 16, 64); err != nil || len(list) == 0 {
		return none, fmt.Errorf("the answer names no cluster or no member (%s %q)", clusterIDHeader, resp.Header.Get(clusterIDHeader))
	}
	for _, m := range list {
		running.Members = append(running.Members, bootstrap.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs})
	}
	return running, nil
}

// askingClient speaks HTTP to peer ports before this member knows its id. With
// the cluster secret it shows an admission certificate of the id that the plan
// alone would give it: nobody's, and good for this question only.
func (d *Daemon) askingClient(plan bootstrap.Plan) (*http.Client, error) {
	var settings pki.Settings
	switch own, err := d.ownCA(); {
	case err != nil:
		return nil, err
	case own:
		secret, err := d.secret()
		if err != nil {
			return nil, err
		}
		renewer, err := pki.NewRenewer(pki.RenewerOptions{
			Secret: secret, SecretFile: d.cfg.ClusterSecretFile, DataDir: d.dir.path, Member: plan.Self,
			PeerHosts: pki.HostsOf(plan.PeerURLs...), ServerHosts: pki.HostsOf(plan.PeerURLs...),
			Known: func(uint64) bool { return true }, Now: d.cfg.now(), Log: d.log,
		})
		if err != nil {
			return nil, err
		}
		settings = renewer
	default:
		files, err := d.fileTLS()
		if err != nil {
			return nil, err
		}
		if files != nil {
			settings = files
		}
	}
	transport := &http.Transport{DialContext: d.dial(), TLSHandshakeTimeout: askTimeout, ResponseHeaderTimeout: askTimeout, MaxResponseHeaderBytes: 64 << 10}
	if settings != nil {
		if transport.TLSClientConfig = settings.PeerClient(0); transport.TLSClientConfig != nil {
			transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
	}
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // no HTTP/2
	return &http.Client{
		Transport: transport, Timeout: askTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
