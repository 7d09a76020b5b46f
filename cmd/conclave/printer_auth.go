package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// authMessage is an answer of the Auth service.
type authMessage interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}

func (p *simplePrinter) auth(_ authMessage, text string) error {
	_, err := fmt.Fprint(p.out, text)
	return err
}

func (p *jsonPrinter) auth(m authMessage, _ string) error     { return p.write(m) }
func (p *protobufPrinter) auth(m authMessage, _ string) error { return p.write(m) }
func (u unsupported) auth(authMessage, string) error          { return u.refuse() }

func (p *fieldsPrinter) auth(m authMessage, _ string) error {
	switch m.(type) {
	case *pb.AuthUserGetResponse, *pb.AuthUserListResponse, *pb.AuthStatusResponse:
		return p.refuse()
	}
	p.header(m.GetHeader())
	switch m := m.(type) {
	case *pb.AuthRoleGetResponse:
		for _, perm := range m.GetPerm() {
			fmt.Fprintf(p.out, "%q :  %s\n", "PermType", perm.GetPermType())
			p.text("Key", string(perm.GetKey()))
			p.text("RangeEnd", string(perm.GetRangeEnd()))
		}
	case *pb.AuthRoleListResponse:
		fmt.Fprintf(p.out, "%q :", "Roles")
		for _, role := range m.GetRoles() {
			fmt.Fprintf(p.out, " %q", role)
		}
		fmt.Fprintln(p.out)
	}
	return nil
}
