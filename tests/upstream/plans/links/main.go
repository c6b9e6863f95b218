// What plans on sdk-go ask of their network, and whether they get it.
package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/testground/sdk-go/network"
	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

const (
	port     = 7000
	patience = 3 * time.Second
)

func main() {
	run.InvokeMap(map[string]interface{}{
		"round-trips": run.InitializedTestCaseFn(roundTrips),
		"regions":     run.InitializedTestCaseFn(regions),
		"policies":    run.InitializedTestCaseFn(policies),
	})
}

// A peer is what an instance tells the others of itself.
type peer struct {
	Number        int64
	Control, Data string
}

// A node is an instance under way.
type node struct {
	env    *runtime.RunEnv
	init   *run.InitContext
	ctx    context.Context
	others []peer
}

// join serves who connects, and waits until all others do.
func join(ctx context.Context, env *runtime.RunEnv, init *run.InitContext) (*node, error) {
	door, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			caller, err := door.Accept()
			if err != nil {
				return
			}
			caller.Close()
		}
	}()
	self := &node{env: env, init: init, ctx: ctx}
	return self, self.meet("all")
}

// meet learns the addresses that the others have now.
func (n *node) meet(name string) error {
	control, err := addressOf("eth0")
	if err != nil {
		return err
	}
	me := peer{n.init.GlobalSeq, control, n.init.NetClient.MustGetDataNetworkIP().String()}
	known := make(chan peer, n.env.TestInstanceCount)
	n.init.SyncClient.MustPublishSubscribe(n.ctx, sync.NewTopic(name, peer{}), me, known)
	n.others = nil
	for i := 0; i < n.env.TestInstanceCount; i++ {
		select {
		case other := <-known:
			if other.Number != me.Number {
				n.others = append(n.others, other)
			}
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
	return nil
}

// together waits until all have come as far as this.
func (n *node) together(name string) {
	n.init.SyncClient.MustSignalAndWait(n.ctx, sync.State(name), n.env.TestInstanceCount)
}

// configure changes the own link, and waits until all have changed theirs.
func (n *node) configure(name string, link network.Config) {
	link.Network, link.Enable, link.CallbackState = "default", true, sync.State(name)
	n.init.NetClient.MustConfigureNetwork(n.ctx, &link)
}

// expect tries to reach an address and returns an error where that does not end as it should.
func (n *node) expect(reached bool, address string) error {
	link, err := net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", address, port), patience)
	if err == nil {
		link.Close()
	} else {
		n.env.RecordMessage("not reached: %s", err)
	}
	if reached != (err == nil) {
		return fmt.Errorf("reached %s: %t, should be %t", address, err == nil, reached)
	}
	return nil
}

func addressOf(name string) (string, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return "", err
	}
	addresses, err := link.Addrs()
	if err != nil {
		return "", err
	}
	for _, address := range addresses {
		if ip, _, err := net.ParseCIDR(address.String()); err == nil && ip.To4() != nil {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("%s has no address", name)
}
