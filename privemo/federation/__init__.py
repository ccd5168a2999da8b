"""A federation of real stores: who they are, what they agree to, and Flower's processes.

* `privemo.federation.identity`: the keys of a store, made on its own machine;
* `privemo.federation.authority`: the server's certificate;
* `privemo.federation.invitation`: what a store is invited to, and joins;
* `privemo.federation.server`: the server's folder;
* `privemo.federation.doorkeeper`: who may speak to the server, and who is revoked;
* `privemo.federation.superlink`: the server's process, served, asked and stopped;
* `privemo.federation.supernode`: a store's;
* `privemo.federation.processes`: how any of them is started, followed and ended.
"""
