"""Limits between the network and the routes: bodies, times, hosts, queues, request ids and the form of errors.

``haproxy`` writes them into the configuration of Ray's HAProxy; ``middleware`` applies them in Ray's Python proxy.
"""
