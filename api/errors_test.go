package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/member"
)

// exportedErrors lists the package-level Err* of the sources in dir.
func exportedErrors(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	must(t, err)
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range tree.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				names = append(names, errorNames(g)...)
			}
		}
	}
	slices.Sort(names)
	return names
}

func errorNames(g *ast.GenDecl) []string {
	var names []string
	for _, s := range g.Specs {
		for _, n := range s.(*ast.ValueSpec).Names {
			if strings.HasPrefix(n.Name, "Err") {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// tableRows lists the errors of a package that errors.go has rows for, as
// written there.
func tableRows(t *testing.T, pkg string) []string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	must(t, err)
	var names []string
	ast.Inspect(tree, func(n ast.Node) bool {
		row, ok := n.(*ast.CompositeLit)
		if !ok || len(row.Elts) != 2 {
			return true
		}
		if sel, ok := row.Elts[0].(*ast.SelectorExpr); ok && sel.X.(*ast.Ident).Name == pkg {
			names = append(names, sel.Sel.Name)
		}
		return true
	})
	slices.Sort(names)
	return names
}

func TestErrorTable_everyExportedErrorHasARow(t *testing.T) {
	for _, pkg := range []string{"kv", "member", "auth"} {
		dir := filepath.Join("..", pkg)
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		if want, have := exportedErrors(t, dir), tableRows(t, pkg); !slices.Equal(want, have) {
			t.Errorf("package %s exports %v, errors.go has rows for %v", pkg, want, have)
		}
	}
}

func TestToGRPC_codesAndTexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{nil, codes.OK, ""},
		{member.ErrNoLeader, codes.Unavailable, "etcdserver: no leader"},
		{fmt.Errorf("ask: %w", member.ErrLeaderChanged), codes.Unavailable, "etcdserver: leader changed"},
		{member.ErrStopped, codes.Unavailable, "etcdserver: server stopped"},
		{member.ErrTimeout, codes.Unavailable, "etcdserver: request timed out"},
		{member.ErrTimeoutLeaderFail, codes.Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"},
		{member.ErrTimeoutConnLost, codes.Unavailable, "etcdserver: request timed out, possibly due to connection lost"},
		{member.ErrTimeoutApply, codes.Unavailable, "etcdserver: request timed out, waiting for the applied index took too long"},
		{member.ErrRequestTooLarge, codes.InvalidArgument, "etcdserver: request is too large"},
		{member.ErrTooManyRequests, codes.Unknown, "etcdserver: too many requests"},
		{member.ErrNoSpace, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{member.ErrMemberNotFound, codes.NotFound, "etcdserver: member not found"},
		{member.ErrNotCapable, codes.FailedPrecondition, "etcdserver: not capable"},
		{member.ErrMemberExists, codes.FailedPrecondition, "etcdserver: member ID already exist"},
		{member.ErrPeerURLExists, codes.FailedPrecondition, "etcdserver: Peer URLs already exists"},
		{member.ErrTooManyLearners, codes.FailedPrecondition, "etcdserver: too many learner members in cluster"},
		{member.ErrNotLearner, codes.FailedPrecondition, "etcdserver: can only promote a learner member"},
		{member.ErrLearnerNotReady, codes.FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader"},
		{member.ErrNotEnoughStarted, codes.Unknown, "etcdserver: re-configuration failed due to not enough started members"},
		{member.ErrUnhealthy, codes.Unavailable, "etcdserver: unhealthy cluster"},
		{member.ErrNotLeader, codes.FailedPrecondition, "etcdserver: not leader"},
		{member.ErrBadTransferee, codes.FailedPrecondition, "etcdserver: bad leader transferee"},
		{member.ErrTransferTimeout, codes.Unknown, "etcdserver: request timed out, leader transfer took too long"},
		{kv.ErrCompacted, codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
		{kv.ErrFutureRevision, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{kv.ErrKeyNotFound, codes.InvalidArgument, "etcdserver: key not found"},
		{kv.ErrLeaseNotFound, codes.NotFound, "etcdserver: requested lease not found"},
		{kv.ErrLeaseExists, codes.FailedPrecondition, "etcdserver: lease already exists"},
		{kv.ErrNoRoom, codes.Unknown, "etcdserver: too many requests"},
		{kv.ErrTooLong, codes.ResourceExhausted, "grpc: trying to send message larger than max (2147483647)"},
		{kv.ErrTooManyCompares, codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{member.ErrLeaseTooLong, codes.OutOfRange, "etcdserver: too large lease TTL"},
		{kv.ErrCorrupt, codes.DataLoss, "etcdserver: corrupt cluster"},
		{context.Canceled, codes.Canceled, "context canceled"},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "context deadline exceeded"},
		{status.Error(codes.Aborted, "as it is"), codes.Aborted, "as it is"},
		{errors.New("no row"), codes.Unknown, "no row"},
	} {
		s := status.Convert(toGRPC(c.err))
		if s.Code() != c.code || s.Message() != c.text {
			t.Errorf("%v: got %s %q, want %s %q", c.err, s.Code(), s.Message(), c.code, c.text)
		}
	}
}
