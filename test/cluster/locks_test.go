//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/lockpb"
)

// A talk is a conversation with one server about locks and elections, as text
// that is the same for all servers that answer alike.
type talk struct {
	t         *testing.T
	ctx       context.Context
	url       string
	client    *clientv3.Client
	locks     lockpb.LockClient
	elections lockpb.ElectionClient
	said      strings.Builder
}

func newTalk(t *testing.T, m *member) *talk {
	t.Helper()
	client := m.dial()
	ctx, cancel := context.WithTimeout(t.Context(), serveTimeout)
	t.Cleanup(cancel)
	conn := client.ActiveConnection()
	return &talk{
		t: t, ctx: ctx, url: m.clientURL(), client: client,
		locks: lockpb.NewLockClient(conn), elections: lockpb.NewElectionClient(conn),
	}
}

// lease grants one with an id, so that keys have the same names everywhere.
func (k *talk) lease(id int64) {
	k.t.Helper()
	_, err := pb.NewLeaseClient(k.client.ActiveConnection()).LeaseGrant(k.ctx, &pb.LeaseGrantRequest{ID: id, TTL: 600})
	if err != nil {
		k.t.Fatal(err)
	}
}

// note writes down an answer.
func (k *talk) note(what string, resp proto.Message, err error) {
	k.t.Helper()
	fmt.Fprintf(&k.said, "%s: %s\n", what, toldBy(k.t, resp, err))
}

// toldBy is an answer as text: code, text and details of an error, or what it
// says but for ids and term in the header.
func toldBy(t *testing.T, resp proto.Message, err error) string {
	t.Helper()
	if err != nil {
		s := grpcstatus.Convert(err)
		if s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded {
			return s.Code().String() // the client's words, not the server's
		}
		return fmt.Sprintf("%v %q %v", s.Code(), s.Message(), s.Details())
	}
	if h, ok := resp.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		header := h.GetHeader()
		if header.ClusterId == 0 || header.MemberId == 0 || header.RaftTerm == 0 {
			t.Errorf("an incomplete header: %v", header)
		}
		header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
	}
	text, err := protojson.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

func (k *talk) lock(name string, lease int64) *lockpb.LockResponse {
	k.t.Helper()
	resp, err := k.locks.Lock(k.ctx, &lockpb.LockRequest{Name: []byte(name), Lease: lease})
	k.note(fmt.Sprintf("lock %.20q %d", name, lease), resp, err)
	return resp
}

func (k *talk) unlock(key string) {
	k.t.Helper()
	resp, err := k.locks.Unlock(k.ctx, &lockpb.UnlockRequest{Key: []byte(key)})
	k.note(fmt.Sprintf("unlock %q", key), resp, err)
}

func (k *talk) leader(name string) {
	k.t.Helper()
	resp, err := k.elections.Leader(k.ctx, &lockpb.LeaderRequest{Name: []byte(name)})
	k.note(fmt.Sprintf("leader %q", name), resp, err)
}

func (k *talk) campaign(name string, lease int64, value string) *lockpb.LeaderKey {
	k.t.Helper()
	resp, err := k.elections.Campaign(k.ctx, &lockpb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)})
	k.note(fmt.Sprintf("campaign %q %d %.20q", name, lease, value), resp, err)
	return resp.GetLeader()
}

func (k *talk) proclaim(l *lockpb.LeaderKey, value string) {
	k.t.Helper()
	resp, err := k.elections.Proclaim(k.ctx, &lockpb.ProclaimRequest{Leader: l, Value: []byte(value)})
	k.note(fmt.Sprintf("proclaim %s %q", l.GetKey(), value), resp, err)
}

func (k *talk) resign(l *lockpb.LeaderKey) {
	k.t.Helper()
	resp, err := k.elections.Resign(k.ctx, &lockpb.ResignRequest{Leader: l})
	k.note(fmt.Sprintf("resign %s", l.GetKey()), resp, err)
}

// later makes a call that waits; what it is answered is written down by the
// function returned. It has its key in the queue when later returns.
func (k *talk) later(ctx context.Context, what, key string, call func(context.Context) (proto.Message, error)) (answered func()) {
	k.t.Helper()
	type answer struct {
		resp proto.Message
		err  error
	}
	out := make(chan answer, 1)
	go func() {
		resp, err := call(ctx)
		out <- answer{resp, err}
	}()
	k.await(key, 1)
	return func() {
		k.t.Helper()
		a := <-out
		k.note(what, a.resp, a.err)
	}
}

func (k *talk) laterLock(ctx context.Context, name string, lease int64) func() {
	k.t.Helper()
	return k.later(ctx, fmt.Sprintf("waited for lock %q %d", name, lease), fmt.Sprintf("%s/%x", name, lease), func(ctx context.Context) (proto.Message, error) {
		return k.locks.Lock(ctx, &lockpb.LockRequest{Name: []byte(name), Lease: lease})
	})
}

func (k *talk) laterCampaign(ctx context.Context, name string, lease int64, value string) func() {
	k.t.Helper()
	return k.later(ctx, fmt.Sprintf("waited to lead %q %d", name, lease), fmt.Sprintf("%s/%x", name, lease), func(ctx context.Context) (proto.Message, error) {
		return k.elections.Campaign(ctx, &lockpb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)})
	})
}

// await waits until so many keys have a prefix.
func (k *talk) await(prefix string, keys int64) {
	k.t.Helper()
	eventually(k.t, serveTimeout, fmt.Sprintf("%d keys below %q", keys, prefix), func() error {
		resp, err := k.client.Get(k.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && resp.Count != keys {
			err = fmt.Errorf("%d keys", resp.Count)
		}
		return err
	})
}

// keys writes down what is below a prefix.
func (k *talk) keys(prefix string) {
	k.t.Helper()
	resp, err := k.client.Get(k.ctx, prefix, clientv3.WithPrefix())
	k.note("keys of "+prefix, (*pb.RangeResponse)(resp), err)
}

// curl posts JSON to the gateway.
func (k *talk) curl(path string, body any) map[string]any {
	k.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := output(k.t.TempDir(), "", installed(k.t, "curl"), "-sS", "-m", "20", "-w", "%{http_code}", k.url+path, "-d", string(text))
	if err != nil {
		k.t.Fatal(err)
	}
	out = strings.ReplaceAll(out, "\u00a0", " ") // protobuf writes either
	at := len(out) - 3
	var answer map[string]any
	if err := json.Unmarshal([]byte(out[:at]), &answer); err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	if header, ok := answer["header"].(map[string]any); ok {
		answer["header"] = header["revision"]
	}
	again, err := json.Marshal(answer)
	if err != nil {
		k.t.Fatal(err)
	}
	fmt.Fprintf(&k.said, "curl %s %s: %s %s\n", path, text, out[at:], again)
	return answer
}

// sameTalk lets both servers have the same conversation.
func sameTalk(t *testing.T, ours, theirs *talk, play func(*talk)) {
	t.Helper()
	play(ours)
	play(theirs)
	got, want := strings.Split(ours.said.String(), "\n"), strings.Split(theirs.said.String(), "\n")
	if len(got) != len(want) {
		t.Errorf("%d answers, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("conclave: %s\netcd:     %s", got[i], want[i])
		}
	}
	if testing.Verbose() {
		t.Log(theirs.said.String())
	}
}

// Every call of the two services is answered as by etcd, through gRPC.
func TestLocks_answerAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	sameTalk(t, newTalk(t, s.member), newTalk(t, their.member), func(k *talk) {
		for id := int64(1); id <= 30; id++ {
			k.lease(id)
		}
		playLocks(k)
		playElections(k)
		playRefusals(k)
	})
}

func playLocks(k *talk) {
	k.lock("a", 1)
	k.lock("a", 1) // one lease is one holder
	second := k.laterLock(k.ctx, "a", 2)
	third := k.laterLock(k.ctx, "a", 3)
	k.keys("a/")
	k.unlock("a/1")
	second()
	k.unlock("a/2")
	third()
	k.unlock("a/3")
	k.unlock("a/3") // gone already
	k.lock("", 1)
	k.unlock("/1")
	k.lock("n\x00\xff/", 4)
	k.keys("n")

	// One in the middle gives up: its key goes, and nobody gets the lock by it.
	k.lock("b", 5)
	ctx, cancel := context.WithCancel(k.ctx)
	gone := k.laterLock(ctx, "b", 6)
	last := k.laterLock(k.ctx, "b", 7)
	cancel()
	gone()
	k.await("b/", 2)
	k.unlock("b/5")
	last()
	// So does one with a deadline.
	ctx, cancel = context.WithTimeout(k.ctx, time.Second)
	gone = k.laterLock(ctx, "b", 8)
	gone()
	cancel()
	k.await("b/", 1)
	// A holder that revokes its lease, and a waiter whose lease ends.
	next := k.laterLock(k.ctx, "b", 9)
	expired := k.laterLock(k.ctx, "b", 10)
	k.revoke(10)
	k.await("b/", 2)
	k.revoke(7)
	next()
	k.revoke(9)
	expired()
	k.keys("b/")
	// Without a lease there is a new one.
	held := k.lockWithout("c")
	ttl, err := k.client.TimeToLive(k.ctx, leaseOfKey(k.t, held))
	if err != nil || ttl.GrantedTTL != 60 || ttl.TTL < 50 {
		k.t.Errorf("lease of a lock without one: %+v, %v", ttl, err)
	}
}

// lockWithout locks without a lease, and gives back the key.
func (k *talk) lockWithout(name string) string {
	k.t.Helper()
	resp, err := k.locks.Lock(k.ctx, &lockpb.LockRequest{Name: []byte(name)})
	if err != nil {
		k.t.Fatal(err)
	}
	key := string(resp.Key)
	resp.Key = []byte(name)
	k.note("lock without a lease", resp, nil)
	return key
}

func leaseOfKey(t *testing.T, key string) (id clientv3.LeaseID) {
	t.Helper()
	if _, err := fmt.Sscanf(key[strings.LastIndex(key, "/")+1:], "%x", (*int64)(&id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func (k *talk) revoke(id int64) {
	k.t.Helper()
	if _, err := k.client.Revoke(k.ctx, clientv3.LeaseID(id)); err != nil {
		k.t.Fatal(err)
	}
}

func playElections(k *talk) {
	k.leader("e")
	l := k.campaign("e", 11, "one")
	k.leader("e")
	k.campaign("e", 11, "one")
	k.leader("e")
	k.campaign("e", 11, "two")
	k.leader("e")
	k.proclaim(l, "three")
	k.leader("e")
	next := k.laterCampaign(k.ctx, "e", 12, "next")
	again := k.laterCampaign(k.ctx, "e", 12, "again") // the same candidate
	k.awaitValue("e/c", "again")
	k.leader("e")
	k.keys("e/")
	ctx, cancel := context.WithCancel(k.ctx)
	gone := k.laterCampaign(ctx, "e", 13, "gone")
	cancel()
	gone()
	k.await("e/", 2)
	k.resign(l)
	next()
	again()
	k.leader("e")
	k.resign(l) // not any more
	k.proclaim(l, "not any more")
	k.keys("e/")
	// Wrong keys of leaders.
	k.proclaim(&lockpb.LeaderKey{Name: []byte("e"), Key: []byte("e/c"), Rev: 1, Lease: 12}, "x")
	k.proclaim(&lockpb.LeaderKey{Name: []byte("e"), Key: []byte("e/nonsense"), Rev: 1, Lease: 12}, "x")
	k.proclaim(&lockpb.LeaderKey{}, "x")
	k.proclaim(nil, "x")
	k.resign(&lockpb.LeaderKey{Name: []byte("e"), Key: []byte("e/c"), Rev: 1, Lease: 12})
	k.resign(&lockpb.LeaderKey{Name: []byte("e"), Key: []byte("e/nonsense")})
	k.resign(&lockpb.LeaderKey{})
	k.resign(nil)
	k.leader("e")
	k.leader("")
	free := k.campaign("f", 14, "")
	free.Lease = 999 // there is none
	k.proclaim(free, "x")
	k.resign(free)
	k.leader("f")
	k.observe()
}

func (k *talk) awaitValue(key, value string) {
	k.t.Helper()
	eventually(k.t, serveTimeout, "the value "+value, func() error {
		resp, err := k.client.Get(k.ctx, key)
		if err == nil && (len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value) {
			err = fmt.Errorf("%v", resp.Kvs)
		}
		return err
	})
}

// observe hears of nobody, leaders, their values, and those after them.
func (k *talk) observe() {
	k.t.Helper()
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	stream, err := k.elections.Observe(ctx, &lockpb.LeaderRequest{Name: []byte("o")})
	if err != nil {
		k.t.Fatal(err)
	}
	hear := func() {
		k.t.Helper()
		resp, err := stream.Recv()
		k.note("observed", resp, err)
	}
	l := k.campaign("o", 15, "first")
	hear()
	k.proclaim(l, "second")
	hear()
	k.proclaim(l, "third")
	hear()
	next := k.laterCampaign(k.ctx, "o", 16, "waits")
	k.resign(l)
	next()
	hear()
	k.revoke(16)
	k.await("o/", 0)
	k.campaign("o", 17, "last")
	hear()
	second, err := k.elections.Observe(ctx, &lockpb.LeaderRequest{Name: []byte("o")})
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := second.Recv()
	k.note("observed by another", resp, err)
	cancel()
	hear()
}

func playRefusals(k *talk) {
	k.lock("r", 1000) // no such lease
	k.lock("r", -1)
	k.campaign("r", 1000, "x")
	k.keys("r")
	k.unlock("")
	k.lock(strings.Repeat("l", 2<<20), 20)
	k.campaign("r", 20, strings.Repeat("v", 3<<19))
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(k.ctx, "hasleader", "true"), serveTimeout)
	defer cancel()
	resp, err := k.locks.Lock(ctx, &lockpb.LockRequest{Name: []byte("with a leader"), Lease: 21})
	k.note("lock that wants a leader", resp, err)
}

// The same through curl.
func TestLocks_answerAsEtcdInJSON(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	b64 := base64.StdEncoding.EncodeToString
	sameTalk(t, newTalk(t, s.member), newTalk(t, their.member), func(k *talk) {
		for id := int64(1); id <= 3; id++ {
			k.lease(id)
		}
		type m = map[string]any
		k.curl("/v3/lock/lock", m{"name": b64([]byte("a")), "lease": "1"})
		waiting := k.laterLock(k.ctx, "a", 2)
		k.curl("/v3/lock/unlock", m{"key": b64([]byte("a/1"))})
		waiting()
		k.curl("/v3/lock/lock", m{"name": b64([]byte("a")), "lease": 1000})
		k.curl("/v3/lock/lock", m{"name": "%%%"})
		k.curl("/v3/lock/unlock", m{})
		k.curl("/v3/lock/trylock", m{})
		k.curl("/v3/election/leader", m{"name": b64([]byte("e"))})
		l := k.curl("/v3/election/campaign", m{"name": b64([]byte("e")), "lease": "3", "value": b64([]byte("v"))})["leader"]
		k.curl("/v3/election/leader", m{"name": b64([]byte("e"))})
		k.curl("/v3/election/proclaim", m{"leader": l, "value": b64([]byte("w"))})
		k.curl("/v3/election/leader", m{"name": b64([]byte("e"))})
		k.curl("/v3/election/resign", m{"leader": l})
		k.curl("/v3/election/proclaim", m{"leader": l})
		k.curl("/v3/election/proclaim", m{})
		k.curl("/v3/election/resign", m{})
		k.curl("/v3/election/leader", m{"name": b64([]byte("e"))})
	})
}
