//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// authStep is a request of somebody, with whatever a client may put into it.
type authStep struct {
	method string
	req    proto.Message
	as     string // a user whose token is shown, or what is shown instead
}

// notUTF8 stands, in names, for bytes that are no UTF-8; it is replaced when the
// request is encoded.
const notUTF8 = "@@"

// encodedBytes sends bytes as they are, under the name of protobuf.
type encodedBytes struct{}

func (encodedBytes) Name() string                  { return "proto" }
func (encodedBytes) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (encodedBytes) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}

// badAuth are requests of which most are refused, in an order in which each finds
// what it needs: names that are empty, long, of blanks or no UTF-8, ranges that are
// inverted, empty, open, adjacent or overlap, grants to nobody, what is in use, and
// tokens that are none.
func badAuth() (steps []authStep) {
	add := func(as, method string, reqs ...proto.Message) {
		for _, r := range reqs {
			steps = append(steps, authStep{method, r, as})
		}
	}
	long := strings.Repeat("n", 1000)
	names := []string{"", " ", "a/b", "\x00", "root\x00", "ä", long, notUTF8}
	for _, name := range names {
		add("", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: name, Password: "p"}, &pb.AuthUserAddRequest{Name: name, Password: "p"})
		add("", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: name}, &pb.AuthRoleAddRequest{Name: name})
		add("", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: name, Role: name}, &pb.AuthUserGrantRoleRequest{User: name, Role: "none"}, &pb.AuthUserGrantRoleRequest{User: "nobody", Role: name})
		add("", pb.Auth_UserRevokeRole_FullMethodName, &pb.AuthUserRevokeRoleRequest{Name: name, Role: "none"}, &pb.AuthUserRevokeRoleRequest{Name: "nobody", Role: name})
		add("", pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: name})
		add("", pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: name})
		add("", pb.Auth_UserChangePassword_FullMethodName, &pb.AuthUserChangePasswordRequest{Name: name, Password: ""})
	}
	for _, r := range [][2]string{{"", ""}, {"", "\x00"}, {"", "a"}, {"b", "a"}, {"b", "b"}, {"a", "b"}, {"b", "c"}, {"a", "b"}, {"a", "c"}, {"b", "\x00"}, {"b", ""}, {"\x00", "\x00"}, {"\xff", "\xff\x00"}} {
		key, end := []byte(r[0]), []byte(r[1])
		for _, role := range []string{" ", "none", ""} {
			add("", pb.Auth_RoleGrantPermission_FullMethodName, &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: &authpb.Permission{PermType: authpb.Permission_READ, Key: key, RangeEnd: end}})
		}
		add("", pb.Auth_RoleRevokePermission_FullMethodName, &pb.AuthRoleRevokePermissionRequest{Role: " ", Key: key, RangeEnd: append(end, 'x')}, &pb.AuthRoleRevokePermissionRequest{Role: "none", Key: key, RangeEnd: end})
	}
	add("", pb.Auth_RoleGrantPermission_FullMethodName, &pb.AuthRoleGrantPermissionRequest{Name: " "}, &pb.AuthRoleGrantPermissionRequest{Name: "none"})
	add("", pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: " "})
	add("", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{})
	add("", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: " ", Password: "p"})
	add("", pb.Auth_UserAdd_FullMethodName, &pb.AuthUserAddRequest{Name: "root", Password: "root"}, &pb.AuthUserAddRequest{Name: "alice", Password: "alice"})
	add("", pb.Auth_RoleAdd_FullMethodName, &pb.AuthRoleAddRequest{Name: "used"}, &pb.AuthRoleAddRequest{Name: "root"})
	add("", pb.Auth_UserGrantRole_FullMethodName, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}, &pb.AuthUserGrantRoleRequest{User: "alice", Role: "used"})
	add("", pb.Auth_RoleGrantPermission_FullMethodName, &pb.AuthRoleGrantPermissionRequest{Name: "used", Perm: &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte("k")}})
	add("", pb.Auth_AuthEnable_FullMethodName, &pb.AuthEnableRequest{}, &pb.AuthEnableRequest{})
	for _, login := range []*pb.AuthenticateRequest{{}, {Name: "root"}, {Name: "nobody", Password: "x"}, {Name: "alice", Password: strings.Repeat("x", 1000)}, {Name: notUTF8, Password: notUTF8}} {
		add("", pb.Auth_Authenticate_FullMethodName, login)
	}
	get := &pb.RangeRequest{Key: []byte("k")}
	for _, who := range []string{"", "alice", "root", "forged", "forged.1", "root.1", "Bearer x", strings.Repeat("x", 4000), "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InJvb3QifQ."} {
		add(who, pb.KV_Range_FullMethodName, get, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("a")}, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte{0}})
		add(who, pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("a")})
		add(who, pb.Auth_UserList_FullMethodName, &pb.AuthUserListRequest{})
	}
	add("root", pb.Auth_UserDelete_FullMethodName, &pb.AuthUserDeleteRequest{Name: "root"}, &pb.AuthUserDeleteRequest{Name: "nobody"}, &pb.AuthUserDeleteRequest{})
	add("root", pb.Auth_UserRevokeRole_FullMethodName, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"})
	add("root", pb.Auth_RoleDelete_FullMethodName, &pb.AuthRoleDeleteRequest{Role: "root"}, &pb.AuthRoleDeleteRequest{Role: "none"}, &pb.AuthRoleDeleteRequest{}, &pb.AuthRoleDeleteRequest{Role: "used"})
	add("root", pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: "alice"})
	add("root", pb.Auth_UserDelete_FullMethodName, &pb.AuthUserDeleteRequest{Name: "alice"})
	add("root", pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: "alice"})
	add("", pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: "alice", Password: "alice"})
	return steps
}

// plainly is a connection that tries nothing again, as etcd's client does after
// "invalid auth token".
func plainly(t *testing.T, m *member) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(m.addr+":"+m.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// authSays makes a step at a server: the code and text it answers, or what it says.
func authSays(t *testing.T, conn *grpc.ClientConn, s authStep) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serveTimeout)
	defer cancel()
	token := s.as
	if s.as == "root" || s.as == "alice" {
		r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: s.as, Password: s.as})
		if err != nil {
			t.Fatal(err)
		}
		token = r.Token
	}
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	body, err := proto.Marshal(s.req)
	if err != nil {
		t.Fatal(err)
	}
	var answer []byte
	if err := conn.Invoke(ctx, s.method, bytes.ReplaceAll(body, []byte(notUTF8), []byte("\xff\xfe")), &answer, grpc.ForceCodec(encodedBytes{})); err != nil {
		text := grpcstatus.Convert(err).Message()
		if rest, ofGRPC := strings.CutPrefix(text, "grpc: "); ofGRPC { // which says it in words of its version
			_, text, _ = strings.Cut(rest, ": ")
		}
		return fmt.Sprint(grpcstatus.Code(err), " ", text)
	}
	switch s.method {
	case pb.Auth_RoleGet_FullMethodName:
		r := &pb.AuthRoleGetResponse{}
		return fmt.Sprint(proto.Unmarshal(answer, r), r.Perm)
	case pb.Auth_UserGet_FullMethodName:
		r := &pb.AuthUserGetResponse{}
		return fmt.Sprint(proto.Unmarshal(answer, r), r.Roles)
	case pb.Auth_UserList_FullMethodName:
		r := &pb.AuthUserListResponse{}
		return fmt.Sprint(proto.Unmarshal(answer, r), r.Users)
	}
	return "done"
}

// Bad requests about users and rights are answered by conclave as by etcd.
func TestAuth_badInputAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	a, b := plainly(t, s.member), plainly(t, their.member)
	refused := 0
	for i, step := range badAuth() {
		got, want := authSays(t, a, step), authSays(t, b, step)
		if got != want {
			t.Errorf("step %d: %s %v of %.20q\nconclave: %s\netcd:     %s", i, step.method, step.req, step.as, got, want)
		}
		if got != "done" && !strings.HasPrefix(got, "<nil>") {
			refused++
		}
	}
	if refused < 100 {
		t.Errorf("only %d requests were refused", refused)
	}
}
