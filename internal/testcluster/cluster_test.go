package testcluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

func client(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func withAll() []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithPrefix()}
}

// within bounds what takes no time at all unless the machine is busy.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// What is written through one member is read through every other one.
func TestCluster_writeOneReadAll(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{Verbose: testing.Verbose()})
	ctx := within(t)
	for i, m := range c.Members {
		key := fmt.Sprintf("key-%d", i)
		if _, err := client(t, m.ClientURL).Put(ctx, key, "value"); err != nil {
			t.Fatalf("put through %s: %v", m.Name, err)
		}
		for _, o := range c.Members {
			resp, err := client(t, o.ClientURL).Get(ctx, key)
			if err != nil {
				t.Fatalf("get through %s: %v", o.Name, err)
			}
			if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "value" {
				t.Fatalf("%s read %v through %s right after the write", o.Name, resp.Kvs, m.Name)
			}
		}
	}
}
