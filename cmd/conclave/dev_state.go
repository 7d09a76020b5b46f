package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
	"github.com/conclave-kv/conclave/internal/durable"
)

const (
	devDomain        = "conclave.test" // RFC 6761 keeps .test out of the real DNS
	devHost          = "127.0.0.1"
	devUser          = "root"
	devStateFormat   = 1
	devPeerService   = "_etcd-server-ssl._tcp"
	devClientService = "_etcd-client-ssl._tcp"
)

// devNoLog is for parts that log; what they could say, dev says itself.
var devNoLog = zerolog.Nop()

// devState is what must be the same at every start of one dev cluster.
type devState struct {
	Format  int              `json:"format"`
	DNSPort int              `json:"dns_port"`
	Members []devMemberState `json:"members"`
}

type devMemberState struct {
	Name       string `json:"name"`
	ClientPort int    `json:"client_port"`
	PeerPort   int    `json:"peer_port"`
}

// loadDevState reads the state file. Without one the error wraps
// fs.ErrNotExist.
func loadDevState(dir devDir) (devState, error) {
	var s devState
	raw, err := os.ReadFile(dir.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return devState{}, fmt.Errorf("--dir: %s cannot be used: %w; give another --dir, or remove %s yourself", dir.statePath(), err, dir)
	}
	return s, nil
}

// check refuses a state dev cannot have written: what --reset deletes is named
// after it.
func (s devState) check() error {
	if s.Format > devStateFormat {
		return fmt.Errorf("it was written by a newer version (format %d, this one reads %d)", s.Format, devStateFormat)
	}
	if s.Format != devStateFormat || len(s.Members) < 1 || len(s.Members) > devMaxMembers {
		return errors.New("it is not a state file of conclave dev")
	}
	seen := map[int]bool{}
	for i, m := range s.Members {
		if m.Name != devMemberName(i) {
			return fmt.Errorf("it calls member %d %q", i+1, m.Name)
		}
	}
	for _, p := range s.allPorts() {
		if p.number < 1 || p.number > 65535 || seen[p.number] {
			return fmt.Errorf("it gives %s the port %d", p.use, p.number)
		}
		seen[p.number] = true
	}
	return nil
}

func (s devState) save(dir devDir) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(dir.statePath(), append(raw, '\n'), 0o600)
}

func devMemberName(i int) string { return "m" + strconv.Itoa(i+1) }

// devPort is a port and what it is for.
type devPort struct {
	number int
	use    string
	udp    bool // as well as TCP
}

func (s devState) allPorts() []devPort {
	list := []devPort{{s.DNSPort, "DNS", true}}
	for _, m := range s.Members {
		list = append(list, devPort{m.ClientPort, "clients of " + m.Name, false}, devPort{m.PeerPort, "peers of " + m.Name, false})
	}
	return list
}

// ports says the ports in a few words.
func (s devState) ports() string {
	var pairs []string
	for _, m := range s.Members {
		pairs = append(pairs, fmt.Sprintf("%d/%d", m.ClientPort, m.PeerPort))
	}
	return fmt.Sprintf("%s for clients/peers, %d for DNS", strings.Join(pairs, ", "), s.DNSPort)
}

func devAddr(port int) string { return net.JoinHostPort(devHost, strconv.Itoa(port)) }

func (s devState) dnsAddr() string { return devAddr(s.DNSPort) }

func (m devMemberState) clientURL() string { return "https://" + devAddr(m.ClientPort) }
func (m devMemberState) host() string      { return m.Name + "." + devDomain }
func (m devMemberState) peerURL() string {
	return "https://" + net.JoinHostPort(m.host(), strconv.Itoa(m.PeerPort))
}

// clientURLs lists the URLs of all members, as --endpoints takes them.
func (s devState) clientURLs() []string {
	var urls []string
	for _, m := range s.Members {
		urls = append(urls, m.clientURL())
	}
	return urls
}

// records is the zone that describes the members.
func (s devState) records() []dnssrv.Record {
	loopback := netip.MustParseAddr(devHost)
	var list []dnssrv.Record
	for _, m := range s.Members {
		list = append(list,
			dnssrv.Record{Host: m.host(), Addr: loopback, Service: devPeerService, Port: uint16(m.PeerPort)},
			dnssrv.Record{Host: m.host(), Service: devClientService, Port: uint16(m.ClientPort)})
	}
	return list
}

// arguments are the flags of one member's process. Its name and URLs are given,
// because all members share the one address of this machine that DNS has.
func (s devState) arguments(dir devDir, m devMemberState) []string {
	return []string{
		"--name=" + m.Name,
		"--data-dir=" + dir.dataPath(m.Name),
		"--discovery-srv=" + devDomain,
		"--discovery-srv-server=" + s.dnsAddr(),
		"--cluster-secret-file=" + dir.secretPath(),
		"--listen-peer-urls=https://" + devAddr(m.PeerPort),
		"--initial-advertise-peer-urls=" + m.peerURL(),
		"--listen-client-urls=" + m.clientURL(),
		"--advertise-client-urls=" + m.clientURL(),
	}
}
