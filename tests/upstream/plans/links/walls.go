package main

import (
	"context"
	"net"
	"time"

	"github.com/testground/sdk-go/network"
	"github.com/testground/sdk-go/ptypes"
	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
)

var filters = map[string]network.FilterAction{
	"accept": network.Accept, "reject": network.Reject, "drop": network.Drop,
}

// A region is one of three: the west has rules against each of the east, nobody has any against the middle.
func region(number int64) string {
	return []string{"middle", "west", "east"}[number%3]
}

// regions walls the west off from the east, looks who reaches whom, takes the wall down and looks again.
func regions(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	self, err := join(ctx, env, init)
	if err != nil {
		return err
	}
	self.wall("wall", filters[env.StringParam("filter")])
	if err := self.look("walled", env.StringParam("filter") != "accept"); err != nil {
		return err
	}
	self.wall("no wall", network.Accept)
	return self.look("free", false)
}

func (n *node) wall(name string, filter network.FilterAction) {
	var link network.Config
	for _, other := range n.others {
		if region(n.init.GlobalSeq) == "west" && region(other.Number) == "east" {
			host := net.IPNet{IP: net.ParseIP(other.Data), Mask: net.CIDRMask(32, 32)}
			rule := network.LinkRule{Subnet: ptypes.IPNet{IPNet: host}}
			rule.Filter = filter
			link.Rules = append(link.Rules, rule)
		}
	}
	n.configure(name, link)
}

// look finds all others, but nobody across a wall, from either side of it.
func (n *node) look(name string, walled bool) error {
	defer n.together("looked " + name)
	for _, other := range n.others {
		here, there := region(n.init.GlobalSeq), region(other.Number)
		across := here != there && here != "middle" && there != "middle"
		if err := n.expect(!(walled && across), other.Data); err != nil {
			return err
		}
	}
	n.env.RecordMessage("%s, the %s reaches whom it should", name, region(n.init.GlobalSeq))
	return nil
}

// policies looks for the others on the control network, which only those may use who are allowed all.
func policies(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	self, err := join(ctx, env, init)
	if err != nil {
		return err
	}
	if err := self.ask("initially", false); err != nil {
		return err
	}
	for _, policy := range []network.RoutingPolicyType{network.AllowAll, network.DenyAll} {
		self.configure(string(policy), network.Config{RoutingPolicy: policy})
		if err := self.ask(string(policy), policy == network.AllowAll); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) ask(name string, allowed bool) error {
	defer n.together("asked " + name)
	for _, other := range n.others {
		if err := n.expect(true, other.Data); err != nil {
			return err
		}
		if err := n.expect(allowed, other.Control); err != nil {
			return err
		}
	}
	n.env.RecordMessage("%s, the control network is open: %t", name, allowed)
	return nil
}
