package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/testground/sdk-go/network"
	"github.com/testground/sdk-go/ptypes"
	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
)

const (
	trips = 5
	slack = 15 * time.Millisecond
	rate  = 1 << 20
)

// roundTrips moves both instances to other addresses while their links are slow, and measures the way between them.
func roundTrips(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	self, err := join(ctx, env, init)
	if err != nil {
		return err
	}
	echo, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
	if err != nil {
		return err
	}
	defer echo.Close()
	for i, word := range strings.Fields(env.StringParam("latencies")) {
		latency, err := time.ParseDuration(word)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s, number %d", word, i)
		slow := network.Config{RoutingPolicy: network.DenyAll}
		slow.Default = network.LinkShape{Latency: latency, Bandwidth: rate}
		if i == 0 {
			if err := self.stay("at first", slow); err != nil {
				return err
			}
		}
		if err := self.move(name, slow, byte(i+1)); err != nil {
			return err
		}
		if err := self.measure(echo, name, 2*latency); err != nil {
			return err
		}
	}
	return nil
}

// stay changes the link, which must leave all addresses as they are.
func (n *node) stay(name string, link network.Config) error {
	before, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	n.configure(name, link)
	after, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		return fmt.Errorf("the addresses %s became %s, which nobody asked for", before, after)
	}
	return nil
}

// move changes the own address in the data network, too. Its mask is that of all data networks there can be.
func (n *node) move(name string, link network.Config, part byte) error {
	subnet := n.env.TestSubnet.IP.To4()
	wanted := net.IPv4(subnet[0], subnet[1], part, byte(n.init.GlobalSeq))
	link.IPv4 = &ptypes.IPNet{IPNet: net.IPNet{IP: wanted, Mask: net.CIDRMask(12, 32)}}
	n.configure(name, link)
	if now := n.init.NetClient.MustGetDataNetworkIP(); !now.Equal(wanted) {
		return fmt.Errorf("the address is %s, should be %s", now, wanted)
	}
	return n.meet("addresses for " + name)
}

// measure has the first instance answer, and the second look at its watch. A busy machine only adds to what a link takes.
func (n *node) measure(echo *net.UDPConn, name string, expected time.Duration) error {
	defer n.together("measured " + name)
	if err := echo.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if n.init.GlobalSeq == 1 {
		return answer(echo)
	}
	shortest := time.Minute
	for i := 0; i < trips; i++ {
		took, err := trip(echo, n.others[0].Data)
		if err != nil {
			return err
		}
		n.env.RecordMessage("%s: a round trip took %d us", name, took.Microseconds())
		if took < shortest {
			shortest = took
		}
	}
	if shortest < expected || shortest > expected+slack {
		return fmt.Errorf("the shortest round trip took %s, should be %s to %s", shortest, expected, expected+slack)
	}
	return nil
}

func answer(echo *net.UDPConn) error {
	packet := make([]byte, 10)
	for i := 0; i < trips; i++ {
		size, from, err := echo.ReadFromUDP(packet)
		if err != nil {
			return err
		}
		if _, err := echo.WriteToUDP(packet[:size], from); err != nil {
			return err
		}
	}
	return nil
}

func trip(echo *net.UDPConn, host string) (time.Duration, error) {
	began := time.Now()
	if _, err := echo.WriteToUDP([]byte("ping"), &net.UDPAddr{IP: net.ParseIP(host), Port: port}); err != nil {
		return 0, err
	}
	_, _, err := echo.ReadFromUDP(make([]byte, 10))
	return time.Since(began), err
}
